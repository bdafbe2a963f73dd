# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever sent a request, and whether they still wait for the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from omps_worker.api.requests.idempotency import IdempotencyKey
from omps_worker.common.errors import RequestAbandoned

T = TypeVar("T")


class Client:
    """One client; what the core knows of it is a ``push_request.Caller``.

    ``receive`` gives what else the client sends: only begin to watch when the request's body was read, as far as it
    is wanted. ``most``: how many bytes it may send that nobody wants.
    """

    def __init__(self, receive: Receive, most: int, key: IdempotencyKey | None = None) -> None:
        self._receive = receive
        self._most = most
        self._key = key
        self._gone = False

    def check(self) -> None:
        """Return if it is still there; raises RequestAbandoned."""
        if self._gone:
            raise RequestAbandoned("The client went away before this was done; it was not begun.")

    def earlier(self) -> str | None:
        """As which version an earlier try of its request was about to be released. Raises StorageError."""
        return None if self._key is None else self._key.earlier()

    def note(self, version: str) -> None:
        """Keep that version. Raises StorageError."""
        if self._key is not None:
            self._key.note(version)

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns. If the client goes away before, it is cancelled, and RequestAbandoned raised."""
        task, watch = asyncio.ensure_future(work), asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._gone = True
                self.check()
            return task.result()
        finally:
            watch.cancel()
            task.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _until_gone(self) -> None:
        size = 0
        while (message := await self._receive())["type"] != "http.disconnect":
            size += len(message.get("body", b""))
            if size > self._most:
                # It goes on sending: then its connection is closed behind the reply.
                await asyncio.get_running_loop().create_future()
