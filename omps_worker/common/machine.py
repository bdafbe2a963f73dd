# SPDX-License-Identifier: GPL-3.0-or-later
"""Resources of this machine that may run out: threads, open files, and space for temporary files.

All threads are started here, so that a machine without further threads is reported as a transient error that is not the
fault of the work. Threads that are always needed are started once and kept.
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

from omps_worker.common.error_details import system_reason
from omps_worker.common.errors import NO_ROOM, ResourcesExhausted, StorageError
from omps_worker.common.tracebacks import drop_tracebacks

log = logging.getLogger(__name__)

T = TypeVar("T")

TRY_AGAIN_SECONDS = 30.0
"""How long to wait before starting missing threads again, in seconds. Meanwhile the other threads do the work."""

PROBE_BYTES = 64 * 1024
"""The size of the temporary file that is written to test the free space, in bytes."""

_NOT_WRITABLE = (*NO_ROOM, errno.EACCES, errno.EPERM, errno.ENOENT)

KEPT_IDLE_THREADS = 2
"""How many idle threads AbandonableCalls keeps."""


def start(thread: threading.Thread) -> None:
    """Start ``thread``. Raises ResourcesExhausted if the system has no more threads; it may be started later."""
    try:
        thread.start()
    except RuntimeError as error:
        if ResourcesExhausted.meant_by(error) is None:
            raise
        raise ResourcesExhausted.of_threads() from None


def check() -> None:
    """Test that threads and temporary files are available. Raises ResourcesExhausted or StorageError (without path)."""
    probe = threading.Thread(target=bool, name="probe", daemon=True)
    start(probe)
    probe.join()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise ResourcesExhausted.meant_by(error) or StorageError(
            f"Temporary files cannot be written where TMPDIR points: {system_reason(error)}."
        ) from None


def trouble() -> str | None:
    """Return which resource this machine has no more of, by testing; None if all are available."""
    try:
        check()
    except (ResourcesExhausted, StorageError) as error:
        return error.message
    return None


def temporary_place() -> str:
    """Return the directory for temporary files, for the log and for users of this machine.

    Other readers are not told paths.
    """
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "any directory for temporary files")


def log_failure(log: logging.Logger, error: BaseException, what: str, *about: object, stored: bool = False) -> None:
    """Log that the action ``what`` (with ``about`` as its arguments) failed with the unexpected ``error``.

    If the machine has run out of a resource or of disk space, this is one line; otherwise the traceback is logged.
    ``stored``: files were being stored, so a directory that cannot be written is also reported in one line.
    """
    exhausted = ResourcesExhausted.meant_by(error)
    if exhausted is not None:
        log.error(f"{what}: %s", *about, exhausted.message)
    elif isinstance(error, OSError) and error.errno in (_NOT_WRITABLE if stored else NO_ROOM):
        log.error(f"{what}: %s (temporary files are in %s)", *about, error, temporary_place())
    else:
        log.error(what, *about, exc_info=error)


class ThreadPool:
    """A pool of daemon threads: the process can exit while they run.

    (The threads of ``concurrent.futures`` are joined at exit: work past the shutdown deadline would delay the exit.) If
    the system does not have ``count`` threads, the pool works with fewer, down to one, and tries again from time to
    time to start the others. ``as_needed``: start with one thread, and add others when there is work for them.
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
        """Start the missing threads. Raises ResourcesExhausted if there is not even one."""
        with self._lock:
            if self._running < self._count and not self._closed and time.monotonic() >= self._next_try:
                self._start_missing()
        return self

    def submit(self, task: Callable[[], object]) -> None:
        """Call ``task`` in one of the threads. It must not raise. Raises ResourcesExhausted if there is no thread."""
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
        """Let the threads end after they have finished all submitted tasks."""
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
                # One thread is left for others: each new connection to the broker needs one for a moment.
                self._running -= 1
                self._tasks.put(None)
            self._next_try = time.monotonic() + TRY_AGAIN_SECONDS
            log.error("only %d of %d threads work: %s", self._running, self._count, error.message)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            # Not kept until the next task arrives: it may hold much memory.
            del task
            with self._lock:
                self._outstanding -= 1


class AbandonableCalls:
    """Threads for calls that cannot be interrupted, such as DNS lookups; the caller can stop waiting.

    There are as many threads as calls in progress, and a few idle ones are kept for the next calls. If no more threads
    can be started, calls wait for the existing ones.
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
        """Start one thread in advance, in case none can be started later. Raises ResourcesExhausted."""
        with self._lock:
            if not self._threads:
                self._start_one()

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """Call ``function`` in a thread and return its result, or raise what it raises.

        Raises TimeoutError after ``seconds``, and ResourcesExhausted if there is no thread at all.
        """
        future: Future[T] = Future()

        def task() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    drop_tracebacks(error)
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            if self._under_way >= self._threads:
                self._start_one()
            self._under_way += 1
        self._tasks.put(task)
        try:
            return future.result(seconds)
        except TookTooLong:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError from None

    def _start_one(self) -> None:
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
                if self._threads - self._under_way > KEPT_IDLE_THREADS:
                    self._threads -= 1
                    return
