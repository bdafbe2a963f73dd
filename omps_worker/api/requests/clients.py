# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a request, and whether it is still waiting for the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from omps_worker.api.requests.idempotency import IdempotencyKey
from omps_worker.common.errors import RequestAbandoned

T = TypeVar("T")


class Client:
    """The client of one request; the core sees it as a ``push_request.Caller``.

    ``receive`` returns further data from the client, so call ``wait_for`` only after the body has been read, if it is
    needed. ``max_unread``: how many bytes the client may send that are not needed.
    """

    def __init__(self, receive: Receive, max_unread: int, key: IdempotencyKey | None = None) -> None:
        self._receive = receive
        self._max_unread = max_unread
        self._key = key
        self._gone = False

    def check(self) -> None:
        """Raise RequestAbandoned if the client has disconnected."""
        if self._gone:
            raise RequestAbandoned("The client disconnected before the work began: nothing was done.")

    def earlier(self) -> str | None:
        """Return the version that an earlier request with the same key was about to release, or None.

        Raises StorageError.
        """
        return None if self._key is None else self._key.earlier()

    def note(self, version: str) -> None:
        """Record the version that is about to be released. Raises StorageError."""
        if self._key is not None:
            self._key.note(version)

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``. If the client disconnects first, cancel it and raise RequestAbandoned."""
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
            if size > self._max_unread:
                # The client keeps sending: stop reading. Its connection is closed after the reply.
                await asyncio.get_running_loop().create_future()
