# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that can be injected into the sandbox's HTTP servers.

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
    """One fault, for the requests whose ``METHOD path?query`` matches ``match``.

    Such a request is processed in this order:

    1. The server waits ``delay`` seconds, and for the event ``hold``. The request has had no effect yet. It will have
       its effect even if the client gives up in the meantime, as on a real server.
    2. ``drop``: the server closes the connection without an answer; the request has no effect. ``status``: the server
       answers with this status, ``body`` and ``headers``; the request has no effect, unless ``effect`` is true.
    3. Otherwise the request has its effect. ``body`` and ``headers``, if given, replace those of the real answer.
    4. The server waits ``delay_answer`` seconds, and for the event ``hold_answer``.
    5. ``drop_answer``: the server closes the connection; the client cannot know about the effect. ``truncate``: the
       server sends half of the body, then closes the connection. ``drip``: the server sends the answer, head and
       body, byte by byte, and waits this many seconds before each byte.
    """

    match: str
    """A regular expression, matched at the start of ``METHOD path?query``."""
    status: int | None = None
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    """Bytes are sent unchanged, text is sent as HTML, and anything else as JSON."""
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
    """How many requests the fault affects; None: all."""
    after: int = 0
    """How many matching requests succeed before the fault begins."""

    def content(self) -> tuple[bytes, str] | None:
        """Return the replacement body and its content type, or None if the real body is sent."""
        if self.body is None:
            return None
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


class Faults:
    """The active faults of one server. They may be changed while the server handles requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []

    def add(self, fault: Fault) -> Fault:
        """Activate ``fault``, after those that are already active, and return it."""
        with self._lock:
            self._entries.append(_Entry(fault, re.compile(fault.match)))
        return fault

    def clear(self) -> None:
        """Remove all faults. Requests that are being held stay held."""
        with self._lock:
            self._entries.clear()

    def fired(self, fault: Fault) -> int:
        """Return how many requests ``fault`` has affected; 0 if it was cleared."""
        with self._lock:
            return sum(entry.fired for entry in self._entries if entry.fault is fault)

    def take(self, method: str, target: str) -> Fault | None:
        """Return the fault for this request, and count it. For servers.

        This is the first fault that matches and is not used up. A fault that is still in its ``after`` phase counts
        the request, and the search goes on.
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
