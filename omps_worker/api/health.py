# SPDX-License-Identifier: GPL-3.0-or-later
"""The health endpoint: checks the services that a push needs, concurrently, and in its own threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from omps_worker.api.replies import Reply
from omps_worker.common import machine
from omps_worker.common.errors import WorkerError, unexpected_error

log = logging.getLogger(__name__)

ASK_SECONDS = 4.0
"""The timeout of the request to each service, in seconds."""

GRACE_SECONDS = 1.0
"""How many seconds longer the endpoint waits for the checking thread: a DNS lookup has no timeout."""

FINE = "It works!"


class HealthEndpoint:
    """Runs each of ``checks``, which raises if its service is unhealthy; None stands for a service that is not used.

    Concurrent requests share one run of the checks.
    """

    def __init__(
        self, checks: Mapping[str, Callable[[], object] | None], *, seconds: float = ASK_SECONDS + GRACE_SECONDS
    ) -> None:
        self._checks = checks
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(2 * max(len(checks), 1), thread_name_prefix="health")
        self._current_run: asyncio.Task[Reply] | None = None

    async def look(self) -> Reply:
        """Return the state of all services, with status 200, or 503 if a service is unhealthy."""
        if self._current_run is None or self._current_run.done():
            self._current_run = asyncio.create_task(self._check_all())
        return await asyncio.shield(self._current_run)

    def close(self) -> None:
        """Stop checking."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _check_all(self) -> Reply:
        answers = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        services = dict(zip(self._checks, answers, strict=True))
        ok = all(answer is None or answer["ok"] for answer in answers)
        status = 200 if ok else 503
        return Reply(status, {"ok": ok, "status": status, "services": services})

    async def _check(self, name: str, check: Callable[[], object] | None) -> dict[str, Any] | None:
        if check is None:
            return None
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._threads, check), self._seconds)
        except asyncio.TimeoutError:
            return {"ok": False, "details": f"No answer within {self._seconds:g} seconds."}
        except WorkerError as error:
            return {"ok": False, "details": error.message}
        except Exception as error:
            machine.log_failure(log, error, "the health check of %s failed", name)
            return {"ok": False, "details": unexpected_error(error).message}
        return {"ok": True, "details": FINE}
