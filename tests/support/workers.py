# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers with a simple handler. The name of a build tells the handler what to do with it.

==========================  ================================================================
``published``               it is published
``skipped``                 it is skipped
``failed``, ``transient``   it fails permanently, or transiently
``half``                    one target is published, two fail
``raise``, ``exit``         the handler raises an exception, or ends the thread
``odd-results``             its results cannot be written
``wait``                    it is published when ``Script.gate`` is open
``elsewhere``               no rule of the mapping matches it
``late-ignored``            no rule matches it, which is only known after Koji was queried
==========================  ================================================================

Run as a program, this module is such a worker in a separate process. It writes what it does to its standard output, and
its gate opens when the file exists that its last argument names.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omps_worker.broker.consuming.consumer import Consumer
from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.publisher import Publisher
from omps_worker.common.errors import BrokerRefused, KojiError, QuayCourierError
from omps_worker.common.model import Attempt, BuildEvent, BuildFacts, Ignored, Outcome, Status, Target
from omps_worker.messages import events
from omps_worker.messages.reporting import Reporter, ResultMessage
from tests.support.bus import PREFIX, topology, where
from tests.support.waiting import wait_until

REPORTER = Reporter(PREFIX, "https://registry.example.com")


def _say(line: str) -> None:
    """Write a line in one call, so that the lines of several threads do not mix."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Script:
    """A handler, and a record of its calls."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[tuple[int | None, Attempt]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.reloads = 0
        self._lock = threading.Lock()

    def handler(self) -> MessageHandler:
        return MessageHandler(events.decode, self.dismiss, self.process, self.messages_for, self.reload)

    def dismiss(self, facts: BuildFacts) -> Ignored | None:
        if facts.component == "dismiss-raises":
            raise LookupError("the mapping is out of order")
        return Ignored("no_rule") if facts.component == "elsewhere" else None

    def process(self, event: BuildEvent, attempt: Attempt) -> Sequence[Outcome] | Ignored:
        with self._lock:
            self.begun.append((event.build_id, attempt))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._act(event)
        finally:
            with self._lock:
                self.at_once -= 1

    def _act(self, event: BuildEvent) -> Sequence[Outcome] | Ignored:
        def outcome(status: Status, repository: str = "etcd", **more: Any) -> Outcome:
            target = Target("community", repository)
            return Outcome(status, "community", repository, nvr=event.nvr, target=target, **more)

        if event.name == "wait":
            self.gate.wait()
        elif event.name == "skipped":
            return [outcome(Status.SKIPPED, reason="bundle build")]
        elif event.name == "failed":
            return [outcome(Status.FAILED, error=QuayCourierError("The registry did not take it."))]
        elif event.name == "transient":
            return [outcome(Status.FAILED, error=KojiError("Koji cannot be reached."))]
        elif event.name == "half":
            return [
                outcome(Status.PUBLISHED, "good"),
                outcome(Status.FAILED, "bad", error=QuayCourierError("No.")),
                outcome(Status.FAILED, "slow", error=KojiError("Koji cannot be reached.")),
            ]
        elif event.name == "raise":
            raise ZeroDivisionError("a secret of the handler")
        elif event.name == "exit":
            raise SystemExit(3)
        elif event.name == "late-ignored":
            return Ignored("no_rule", "Koji told the owner")
        return [outcome(Status.PUBLISHED, version="1.0.0")]

    def messages_for(self, outcomes: Sequence[Outcome], source: Any, attempt: Attempt) -> list[ResultMessage]:
        if any(outcome.nvr and outcome.nvr.startswith("odd-results") for outcome in outcomes):
            raise RuntimeError("no words for it")
        return REPORTER.messages(outcomes, source, attempt)

    def reload(self) -> None:
        self.reloads += 1
        if self.reloads == 2:
            raise OSError("the file is gone")


class Worker:
    """A worker in a thread. ``with Worker(url, script) as worker`` waits until it consumes, and stops it at the end."""

    def __init__(self, url: str, script: Script | None = None, *, queue: str = "omps-worker", **options: Any) -> None:
        self.script = script or Script()
        more = {key: options.pop(key) for key in ("passive", "bindings", "publish_exchange") if key in options}
        wanted = topology(queue, **more)
        if "arguments" in options:
            wanted = replace(wanted, arguments=options.pop("arguments"))
        self.publisher = Publisher(where(options.pop("results_url", url)), timeout=options.pop("publish_seconds", 5.0))
        self.consumer = Consumer(where(url), wanted, self.script.handler(), self.publisher, **options)
        self.exit_code: int | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.exit_code = self.consumer.run()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Worker:
        self.thread.start()
        wait_until(lambda: self.consumer.consuming or self.error, 30, "a consumer")
        if self.error:
            raise self.error
        return self

    def __exit__(self, *_: object) -> None:
        self.script.gate.set()
        self.stop()

    def stop(self) -> int | None:
        """Stop the worker as SIGTERM does, and return the exit code."""
        self.consumer.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.exit_code


def main() -> int:
    url, queue, shutdown_timeout, concurrency, prefetch, gate = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    script = Script()
    process, reload = script.process, script.reload

    def told(event: BuildEvent, attempt: Attempt) -> Sequence[Outcome] | Ignored:
        _say(f"begin {event.build_id} {'interrupted' if attempt.interrupted else 'fresh'}")
        if event.name == "wait":
            wait_until(Path(gate).exists, 120)
            script.gate.set()
        return process(event, attempt)

    def reloaded() -> None:
        print("reload", flush=True)
        reload()

    script.process, script.reload = told, reloaded  # type: ignore[method-assign]
    consumer = Consumer(
        where(url),
        topology(queue),
        script.handler(),
        Publisher(where(url), timeout=5),
        concurrency=int(concurrency),
        prefetch=int(prefetch),
        shutdown_timeout=float(shutdown_timeout),
    )
    try:
        return consumer.run()
    except BrokerRefused as error:
        print("refused", error, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
