# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that go wrong on request: how the sandbox's HTTP servers are made to misbehave.

::

    registry.faults.add(Fault("POST /cnr/api/v1/packages/", drop_answer=True))
    registry.faults.add(Fault("GET ", status=503, headers={"Retry-After": "2"}, times=3))
    koji.faults.add(Fault("GET .*zip", delay=5, times=None))
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Fault:
    """One way to misbehave, for the requests whose ``METHOD path?query`` it matches.

    What happens to such a request, in this order:

    1. ``delay`` seconds pass, and ``hold`` is waited for. The request has had no effect yet; it
       will have it even if the client gives up meanwhile, as on a real server.
    2. ``drop``: the connection is closed without an answer and without an effect. ``status``: so
       is the answer, with ``body`` and ``headers``, again without an effect unless ``effect``.
    3. Otherwise the request has its effect. ``body`` and ``headers``, if given, replace those of
       the true answer.
    4. ``delay_answer`` seconds pass, and ``hold_answer`` is waited for.
    5. ``drop_answer``: the connection is closed; the client cannot know of the effect.
       ``truncate``: half of the body is sent, then the connection is closed. ``drip``: the
       answer, head and body, leaves byte by byte, with this many seconds before each.
    """

    match: str
    """A regular expression, searched for from the start of ``METHOD path?query``."""
    status: int | None = None
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    """Bytes are sent as they are, text as HTML, anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    effect: bool = False
    delay: float = 0
    hold: threading.Event | None = None
    drop: bool = False
    delay_answer: float = 0
    hold_answer: threading.Event | None = None
    drop_answer: bool = False
    truncate: bool = False
    drip: float = 0
    times: int | None = 1
    """How many requests it befalls; None: all of them."""
    after: int = 0
    """How many matching requests go well first."""

    def content(self) -> tuple[bytes, str] | None:
        """The body that replaces the true one, and its content type; None: the true one stays."""
        if self.body is None:
            return None
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


class Faults:
    """The faults that are in force on one server. Safe to change while requests come in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []

    def add(self, fault: Fault) -> Fault:
        """Put ``fault`` in force, behind those that already are; returns it."""
        with self._lock:
            self._entries.append(_Entry(fault, re.compile(fault.match)))
        return fault

    def clear(self) -> None:
        """From now on everything goes well. Requests that are held stay held."""
        with self._lock:
            self._entries.clear()

    def fired(self, fault: Fault) -> int:
        """How many requests ``fault`` has befallen; 0 for one that was cleared."""
        with self._lock:
            return sum(entry.fired for entry in self._entries if entry.fault is fault)

    def take(self, method: str, target: str) -> Fault | None:
        """The fault that befalls this request, counted; for servers.

        The first that matches and is not used up. ``after`` counts for every fault that the
        request reaches.
        """
        line = f"{method} {target}"
        with self._lock:
            for entry in self._entries:
                if not entry.pattern.match(line) or entry.used_up:
                    continue
                entry.seen += 1
                if entry.seen > entry.fault.after:
                    entry.fired += 1
                    return entry.fault
        return None


@dataclass
class _Entry:
    fault: Fault
    pattern: re.Pattern[str]
    seen: int = 0
    fired: int = 0

    @property
    def used_up(self) -> bool:
        return self.fault.times is not None and self.fired >= self.fault.times
