# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine gives every process, and may stop giving: threads, open files, and room for temporary ones.

Whatever starts a thread does so here, so that a machine that gives no more of them is named as what it
is: transient, and nothing against the work. What is needed all the time is started once and kept.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from typing import TypeVar

from omps_worker.common.error_details import why
from omps_worker.common.errors import NO_ROOM, ResourcesExhausted, StorageError
from omps_worker.common.tracebacks import let_go

log = logging.getLogger(__name__)

T = TypeVar("T")

TRY_AGAIN_SECONDS = 30.0
"""How long to wait until threads that could not be started are tried again, while others do their work."""

PROBE_BYTES = 64 * 1024
"""How large a temporary file is written to see whether there is room for any."""

_NOT_WRITABLE = (*NO_ROOM, errno.EACCES, errno.EPERM, errno.ENOENT)

KEPT_HELPERS = 2
"""How many threads a Helpers keeps that have nothing to do."""


def start(thread: threading.Thread) -> None:
    """Start ``thread``. Raises ResourcesExhausted if there is none to be had; then it may be started later."""
    try:
        thread.start()
    except RuntimeError as error:
        if ResourcesExhausted.meant_by(error) is None:
            raise
        raise ResourcesExhausted.of_threads() from None


def look() -> None:
    """Try what this machine has to give. Raises ResourcesExhausted or StorageError, neither of which has the path."""
    probe = threading.Thread(target=bool, name="probe", daemon=True)
    start(probe)
    probe.join()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise ResourcesExhausted.meant_by(error) or StorageError(
            f"Temporary files cannot be written where TMPDIR points: {why(error)}."
        ) from None


def trouble() -> str | None:
    """What this machine does not give any more, by trying it; None: all that is needed."""
    try:
        look()
    except (ResourcesExhausted, StorageError) as error:
        return error.message
    return None


def temporary_place() -> str:
    """The directory for temporary files, for the log and for who asks on this machine; nobody else is told paths."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "any directory for temporary files")


def log_failure(log: logging.Logger, error: BaseException, what: str, *about: object, stored: bool = False) -> None:
    """Tell ``log`` that ``what``, with ``about`` in it, ended in ``error``, which nobody expected.

    A machine that gives no more, or has no room, has one line; for everything else there is the traceback.
    ``stored``: files were being kept, so that a place that cannot be written is no riddle either.
    """
    exhausted = ResourcesExhausted.meant_by(error)
    if exhausted is not None:
        log.error(f"{what}: %s", *about, exhausted.message)
    elif isinstance(error, OSError) and error.errno in (_NOT_WRITABLE if stored else NO_ROOM):
        log.error(f"{what}: %s (temporary files are in %s)", *about, error, temporary_place())
    else:
        log.error(what, *about, exc_info=error)


class ThreadPool:
    """A number of threads that work. They do not keep the process from ending.

    (Those of ``concurrent.futures`` do: work past the shutdown deadline would hold up the exit.)
    Where there are not so many to be had, the work goes on with fewer, down to one, and the rest is
    tried again now and then. ``as_needed``: only one is started before there is work for more.
    """

    def __init__(self, count: int, name: str = "work", *, as_needed: bool = False) -> None:
        self._most = count
        self._count = 1 if as_needed else count
        self._name = name
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = 0
        self._outstanding = 0
        self._next_try = -math.inf
        self._closed = False

    def begin(self) -> ThreadPool:
        """Start them, as far as that was not done before. Raises ResourcesExhausted if there is none at all."""
        with self._lock:
            if self._running < self._count and not self._closed and time.monotonic() >= self._next_try:
                self._start_missing()
        return self

    def submit(self, task: Callable[[], object]) -> None:
        """Have one of the threads call ``task``, which must not raise. Raises ResourcesExhausted if there is none."""
        with self._lock:
            self._outstanding += 1
            self._count = max(self._count, min(self._outstanding, self._most))
        try:
            if self._running < self._count:
                self.begin()
        except ResourcesExhausted:
            with self._lock:
                self._outstanding -= 1
            raise
        self._tasks.put(task)

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        with self._lock:
            self._closed = True
            for _ in range(self._running):
                self._tasks.put(None)

    def _start_missing(self) -> None:
        try:
            while self._running < self._count:
                start(threading.Thread(target=self._run, name=f"{self._name}-{self._running + 1}", daemon=True))
                self._running += 1
        except ResourcesExhausted as error:
            if not self._running:
                raise
            if self._running > 1:
                # One is left over for others: each new connection to the broker needs one for a moment.
                self._running -= 1
                self._tasks.put(None)
            self._next_try = time.monotonic() + TRY_AGAIN_SECONDS
            log.error("only %d of %d threads work: %s", self._running, self._count, error.message)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            # Not kept until the next one comes: it may hold a lot.
            del task
            with self._lock:
                self._outstanding -= 1


class AbandonableCalls:
    """Threads for calls that nothing can interrupt, such as asking a resolver: who waits may give up.

    There are as many as there are calls under way, and a few are kept for the next. Where no more can be
    started, calls wait for those that there are.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._threads = self._under_way = 0

    def prepare(self) -> None:
        """Have one thread ready, for a time in which none can be started. Raises ResourcesExhausted."""
        with self._lock:
            if not self._threads:
                self._one_more()

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What ``function`` returns, or raises.

        Raises TimeoutError after ``seconds``, and ResourcesExhausted if there is no thread at all.
        """
        future: Future[T] = Future()

        def task() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    let_go(error)
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            if self._under_way >= self._threads:
                self._one_more()
            self._under_way += 1
        self._tasks.put(task)
        try:
            return future.result(seconds)
        except TookTooLong:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError from None

    def _one_more(self) -> None:
        try:
            start(threading.Thread(target=self._run, name=self._name, daemon=True))
        except ResourcesExhausted:
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            task()
            del task
            with self._lock:
                self._under_way -= 1
                if self._threads - self._under_way > KEPT_HELPERS:
                    self._threads -= 1
                    return
