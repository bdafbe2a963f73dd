# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread pool in which the work of requests runs, for use from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from omps_worker.common.machine import ThreadPool
from omps_worker.common.work_times import WorkTimes

T = TypeVar("T")


class WorkerPool:
    """A pool of at most ``size`` threads. Work waits while all of them are busy."""

    def __init__(self, size: int) -> None:
        self._threads = ThreadPool(size, "request", as_needed=True).begin()
        self._waiting: set[Future[Any]] = set()
        self._closed = False
        self._unfinished = 0
        self._times = WorkTimes()

    @property
    def idle(self) -> bool:
        """Whether no work is running or waiting."""
        return self._unfinished == 0

    @property
    def longest(self) -> float:
        """The running time of the work that began first, in seconds, without its wait for a thread; 0 if none runs."""
        return self._times.longest

    async def run(self, work: Callable[[], T], finally_do: Callable[[], object] = lambda: None) -> T:
        """Run ``work`` in a thread, and return its result.

        Work that has begun is finished even if the caller is cancelled. In every case ``finally_do`` is called at the
        end, in the event loop.
        """
        self._unfinished += 1
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._unfinished -= 1
            finally_do()

        def done(_: object) -> None:
            # The loop may be closed: then the process is ending, and the count no longer matters.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

        future: Future[T] = Future()
        self._waiting.add(future)
        future.add_done_callback(done)
        if self._closed:
            future.cancel()
        else:
            self._threads.submit(partial(self._perform, future, contextvars.copy_context(), work))
        return await asyncio.wrap_future(future)

    def _perform(self, future: Future[T], context: contextvars.Context, work: Callable[[], T]) -> None:
        self._waiting.discard(future)
        if not future.set_running_or_notify_cancel():
            return
        try:
            with self._times.measure():
                result = context.run(work)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    async def finish(self, until: float) -> None:
        """Wait until no work is running or waiting, at most until the time ``until`` of ``time.monotonic``.

        Work may continue after its client has disconnected, so no request may be waiting for it.
        """
        while not self.idle and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Begin no more work."""
        self._closed = True
        for future in tuple(self._waiting):
            future.cancel()
        self._threads.close()
