# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the services there that a push needs? Asked all at once, and never from the threads that push."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from omps_worker.api.replies import Reply
from omps_worker.common import machine
from omps_worker.common.errors import WorkerError, unforeseen

log = logging.getLogger(__name__)

ASK_SECONDS = 4.0
"""How long each service has to answer."""

GRACE_SECONDS = 1.0
"""How much longer one waits for the thread that asks: looking up a name in the DNS knows no deadline."""

FINE = "It works!"


class HealthEndpoint:
    """Asks each of ``questions``, which raises what is wrong; None stands for a service that is not used.

    However many ask at the same time, the services are asked once.
    """

    def __init__(
        self, questions: Mapping[str, Callable[[], object] | None], *, seconds: float = ASK_SECONDS + GRACE_SECONDS
    ) -> None:
        self._questions = questions
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(2 * max(len(questions), 1), thread_name_prefix="health")
        self._under_way: asyncio.Task[Reply] | None = None

    async def look(self) -> Reply:
        """The state of all services: 200, or 503 if one is not well."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._under_way)

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask_all(self) -> Reply:
        answers = await asyncio.gather(*(self._ask(name, question) for name, question in self._questions.items()))
        services = dict(zip(self._questions, answers, strict=True))
        ok = all(answer is None or answer["ok"] for answer in answers)
        status = 200 if ok else 503
        return Reply(status, {"ok": ok, "status": status, "services": services})

    async def _ask(self, name: str, question: Callable[[], object] | None) -> dict[str, Any] | None:
        if question is None:
            return None
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._threads, question), self._seconds)
        except asyncio.TimeoutError:
            return {"ok": False, "details": f"There was no answer within {self._seconds:g} seconds."}
        except WorkerError as error:
            return {"ok": False, "details": error.message}
        except Exception as error:
            machine.log_failure(log, error, "asking %s how it does failed", name)
            return {"ok": False, "details": unforeseen(error).message}
        return {"ok": True, "details": FINE}
