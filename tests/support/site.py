# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox site on the run's broker, and the worker as a process on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika

from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import QUEUE, ResultWatch, SandboxSite
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class TestSite(SandboxSite):
    """A SandboxSite with what tests want to ask and do."""

    __test__ = False

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        """Run ``omps-worker ARGUMENTS`` to its end."""
        ended = subprocess.run(
            [sys.executable, "-m", "omps_worker", "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(environment or {})},
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """``omps-worker run``, consuming; ended by SIGTERM, which must go well, unless it ended before."""
        worker = self.worker("run")
        try:
            wait_until(lambda: worker.poll() is not None or self.consumers(), 20, "the worker to consume")
            assert worker.poll() is None, self.log
            yield worker
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(30) == 0, self.log
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            worker.stdout.close()

    @property
    def log(self) -> str:
        """What the worker logged so far."""
        path = self.directory / "worker.log"
        return path.read_text() if path.exists() else ""

    def consumers(self) -> int:
        """How many consumers the queue has; 0 without a queue."""
        with self.channel() as channel:
            try:
                return channel.queue_declare(QUEUE, passive=True).method.consumer_count
            except pika.exceptions.ChannelClosedByBroker:
                return 0

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel with confirms."""
        connection = self.connect()
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            connection.close()

    def publish(self, *messages: BusMessage) -> None:
        """Send messages as the build system does."""
        with self.channel() as channel:
            for message in messages:
                self.send(channel, message)

    def take(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        """All messages of a queue, which is empty then."""
        taken = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return taken
                taken.append((properties, body))

    @contextmanager
    def watching(self) -> Iterator[ResultWatch]:
        """Collect results from now on."""
        watch = ResultWatch(self)
        try:
            yield watch
        finally:
            watch.close()


def results_of(watch: ResultWatch, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """The bodies of the first ``count`` results, waiting for them."""

    def enough() -> bool:
        watch.poll()
        return len(watch.results) >= count

    wait_until(enough, seconds, f"{count} results; so far: {watch.results}")
    return [body for _, body in watch.results]


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file, as an editor does: by a new file under the old name."""
    text = path.read_text()
    assert old in text
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(old, new))
    fresh.replace(path)
