# SPDX-License-Identifier: GPL-3.0-or-later
"""One RabbitMQ node for a whole test run, with a separate virtual host for each test.

All processes of a run (pytest-xdist) share one directory. The first process that needs the node starts it, the others
join it, and the node ends when the last process releases it. A killed process releases it too.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omps_worker.sandbox.broker import RabbitNode
from tests.support.waiting import wait_until

_BATCH = 24
"""How many virtual hosts are created at once. Creating many takes as long as creating one."""


class SharedRabbit:
    """The node of this test run. ``meeting_place`` is a directory that all its processes share."""

    def __init__(self, meeting_place: Path) -> None:
        self._lock = meeting_place / "rabbit.lock"
        self._state = meeting_place / "rabbit.json"
        with self._locked() as state:
            node = RabbitNode.join(Path(state["directory"])) if state else None
            if node is None:
                node = RabbitNode()
                node.start()
                state.update(directory=str(node.directory), holders=0, made=0, free=[])
            state["holders"] += 1
        self.node = node

    def new_vhost(self) -> str:
        """Return the URL of an unused virtual host."""
        with self._locked() as state:
            if not state["free"]:
                first = state["made"]
                state["free"] = [f"test-{number}" for number in range(first, first + _BATCH)]
                state["made"] += _BATCH
                self.node.add_vhosts(state["free"])
            return self.node.url(state["free"].pop())

    def release(self) -> None:
        """Release the node. For the last process, this returns when the node has ended."""
        with self._locked() as state:
            state["holders"] -= 1
            last = state["holders"] == 0
            directory = Path(state["directory"])
        self.node.close(wait=last)
        if last:
            wait_until(lambda: not directory.exists(), 120, "the end of the RabbitMQ node")

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        with self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(self._state.read_text()) if self._state.exists() else {}
            yield state
            self._state.write_text(json.dumps(state))
