# SPDX-License-Identifier: GPL-3.0-or-later
"""The threads in which requests are worked on, as the event loop sees them."""

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
    """So many threads at most; what comes while all of them work waits."""

    def __init__(self, size: int) -> None:
        self._threads = ThreadPool(size, "request", as_needed=True).begin()
        self._waiting: set[Future[Any]] = set()
        self._closed = False
        self._under_way = 0
        self._works = WorkTimes()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nobody waits."""
        return self._under_way == 0

    @property
    def longest(self) -> float:
        """For how many seconds the slowest piece of work goes on, waiting not included. 0: none does."""
        return self._works.longest

    async def run(self, work: Callable[[], T], finally_do: Callable[[], object] = lambda: None) -> T:
        """What ``work`` returns.

        What was begun is finished even if nobody waits for it any more; in any case ``finally_do`` comes last, in
        the event loop.
        """
        self._under_way += 1
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._under_way -= 1
            finally_do()

        def done(_: object) -> None:
            # The loop may be gone: the process ends, and nobody counts any more.
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
            with self._works.measure():
                result = context.run(work)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    async def finish(self, until: float) -> None:
        """Wait until nothing is under way any more, at most until that time of ``time.monotonic``.

        Nobody may wait for it: clients leave, and what they asked for goes on.
        """
        while not self.idle and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for future in tuple(self._waiting):
            future.cancel()
        self._threads.close()
