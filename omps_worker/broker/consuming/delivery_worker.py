# SPDX-License-Identifier: GPL-3.0-or-later
"""``DeliveryWorker``: process a relevant message in a worker thread, publish its results, retry or park what failed.

The message may be acked once ``DeliveryWorker.perform`` returns a value, and not before.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from pika.spec import BasicProperties

from omps_worker.broker import copies
from omps_worker.broker.connection.backoff import Backoff
from omps_worker.broker.delivery import Delivery
from omps_worker.broker.outbox import OutgoingMessage
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.queues.topology import failed_queue, retry_queue
from omps_worker.common import machine
from omps_worker.common.errors import BrokerError, BrokerRefused, UnexpectedError, WorkerError, unexpected_error
from omps_worker.common.model import Attempt, BuildEvent, BuildFacts, Ignored, Outcome, Source, Status
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.text import one_line
from omps_worker.common.work_times import WorkTimes
from omps_worker.messages.reporting import log_outcome
from omps_worker.publishing import retry

log = logging.getLogger(__name__)


class ResultMessage(Protocol):
    """A result, ready for the bus; see ``messages.reporting.ResultMessage``."""

    @property
    def topic(self) -> str:
        """The routing key."""
        ...

    @property
    def id(self) -> str:
        """The message id."""
        ...

    @property
    def headers(self) -> dict[str, Any]:
        """The headers."""
        ...

    @property
    def payload(self) -> bytes:
        """The body."""
        ...


class Decode(Protocol):
    """Decodes a message; see ``messages.events.decode``."""

    def __call__(
        self,
        body: bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        message_type: str | None = None,
        topic: str = "",
    ) -> BuildEvent | Ignored:
        """Return the event, or the reason why there is none. Raises MessageError if the message cannot be decoded."""
        ...


@dataclass(frozen=True)
class MessageHandler:
    """What a worker does with messages; the code for the broker knows nothing about builds and registries.

    ``decode`` and ``dismiss`` are called in the connection's thread and must be quick. ``dismiss`` returns the reason
    why a build is certainly irrelevant, or None if it may be relevant. ``process`` does the work, in one of several
    threads, and ``messages_for`` writes the results. ``reload`` is called after a SIGHUP, ``housekeeping`` about once a
    second, both in the connection's thread. ``observer`` receives all counts and times. ``running`` passes these
    implementations:

    ================ =================================================================
    ``decode``       ``messages.events.decode``
    ``dismiss``      ``bootstrap.Site.dismiss``
    ``process``      ``publishing.processor.Processor.process``
    ``messages_for`` ``messages.reporting.Reporter.messages``
    ``reload``       ``configuration.mapping.file.MappingFile.reload``
    ``housekeeping`` ``configuration.mapping.file.MappingFile.reload_if_changed``
    ``observer``     ``monitoring.service_monitoring.ServiceMonitoring.observer``
    ================ =================================================================

    An exception in ``decode``, ``dismiss``, ``process`` or ``messages_for`` is a failure of the current message. The
    message is retried if this machine ran out of resources or disk space, and parked otherwise. An exception in
    ``reload`` or ``housekeeping`` is only logged. None of them stops the worker.
    """

    decode: Decode
    dismiss: Callable[[BuildFacts], Ignored | None]
    process: Callable[[BuildEvent, Attempt], Sequence[Outcome] | Ignored]
    messages_for: Callable[[Sequence[Outcome], Source, Attempt], Sequence[ResultMessage]]
    reload: Callable[[], object] = lambda: None
    housekeeping: Callable[[], object] = lambda: None
    observer: Observer = NO_OBSERVER


@dataclass(frozen=True)
class CompletedWork:
    """The outcome is recorded, and the message may be acked. With ``ignored``, there was nothing to do."""

    statuses: tuple[Status, ...] = ()
    ignored: Ignored | None = None


class DeliveryWorker:
    """Processes deliveries and records their outcomes, in any thread.

    ``restore_topology`` requests that the queues are declared again. ``already_parked`` is called for a redelivered
    message, with the name of its error and the targets that failed; it returns whether this failure is parked already.
    """

    def __init__(
        self,
        handler: MessageHandler,
        publisher: Publisher,
        *,
        queue: str,
        publish_exchange: str,
        publish_priority: int | None,
        schedule: retry.RetrySchedule,
        restore_topology: Callable[[], object],
        already_parked: Callable[[Delivery, str, Sequence[str] | None], bool] = lambda *_: False,
    ) -> None:
        self._handler = handler
        self._publisher = publisher
        self._queue = queue
        self._schedule = schedule
        self._exchange = publish_exchange
        self._priority = publish_priority
        self._restore_topology = restore_topology
        self._already_parked = already_parked
        self._abandoned = threading.Event()
        self._processing = WorkTimes()
        self._recording_problems: dict[object, str] = {}

    @property
    def recording_problem(self) -> str | None:
        """Why an outcome cannot be recorded, although the worker keeps trying; None: there is no such outcome."""
        return next(iter(self._recording_problems.copy().values()), None)

    @property
    def longest_work(self) -> float:
        """For how many seconds the longest-running work has been under way; 0 if there is none.

        The recording of its outcome does not count.
        """
        return self._processing.longest

    def abandon(self) -> None:
        """Stop waiting for the broker: messages whose outcome is not recorded yet stay un-acked."""
        self._abandoned.set()

    def perform(self, delivery: Delivery, fault: WorkerError | None) -> CompletedWork | None:
        """Do the work and record the outcome. Return None if it could not be recorded.

        ``fault`` is the error of a message that cannot be processed at all, such as one that cannot be decoded.
        """
        attempt, source = delivery.attempt, delivery.source
        with self._processing.measure():
            outcomes = self._outcomes(delivery, attempt, fault)
        if isinstance(outcomes, Ignored):
            return CompletedWork(ignored=outcomes)
        with self._handler.observer.timing("result"):
            return self._record_outcomes(outcomes, delivery, attempt, source)

    def _record_outcomes(
        self, outcomes: Sequence[Outcome], delivery: Delivery, attempt: Attempt, source: Source
    ) -> CompletedWork | None:
        observer = self._handler.observer
        disposition, messages = self._with_results(self._decide(outcomes, delivery), delivery)
        for outcome in disposition.outcomes:
            log_outcome(outcome, source, attempt)
            observer.outcome(outcome.status.value, outcome.error_name)
        for message in messages:
            if not self._record(lambda message=message: result(message, self._exchange, self._priority)):  # type: ignore[misc]
                return None
        parked, again = disposition.parked, disposition.again
        if parked is not None and not self._is_duplicate(delivery, parked):
            if not self._record(lambda: self._parked_message(delivery, parked)):
                return None
            observer.parked(parked.error.name)
        if again is not None:
            if not self._record(lambda: self._waiting_message(delivery, again)):
                return None
            observer.retry(again.delay.text)
        return CompletedWork(tuple(outcome.status for outcome in disposition.outcomes))

    def _outcomes(self, delivery: Delivery, attempt: Attempt, fault: WorkerError | None) -> Sequence[Outcome] | Ignored:
        if fault is not None or delivery.event is None:
            fault = fault or UnexpectedError("The message was accepted without being decoded.")
            nvr = delivery.event.nvr if delivery.event else None
            return [Outcome(Status.FAILED, nvr=nvr, error=fault)]
        try:
            return self._handler.process(delivery.event, attempt)
        except BaseException as error:
            machine.log_failure(log, error, "the work on message %s raised an exception", one_line(delivery.message_id))
            return [Outcome(Status.FAILED, nvr=delivery.event.nvr, error=unexpected_error(error))]

    def _decide(self, outcomes: Sequence[Outcome], delivery: Delivery) -> retry.RetryDecision:
        return retry.decide(
            outcomes,
            attempt=delivery.attempt.number,
            first_seen=delivery.first_seen,
            now=datetime.now(timezone.utc),
            schedule=self._schedule,
        )

    def _with_results(
        self, disposition: retry.RetryDecision, delivery: Delivery
    ) -> tuple[retry.RetryDecision, Sequence[ResultMessage]]:
        source, attempt = delivery.source, delivery.attempt
        try:
            return disposition, self._handler.messages_for(disposition.outcomes, source, attempt)
        except Exception as error:
            log.exception("the results of message %s cannot be written", one_line(source.message_id))
            failed = Outcome(Status.FAILED, error=unexpected_error(error))
        disposition = self._decide([failed], delivery)
        try:
            return disposition, self._handler.messages_for([failed], source, attempt)
        except Exception:
            log.exception("the result that reports this cannot be written either")
            return disposition, ()

    def _is_duplicate(self, delivery: Delivery, parked: retry.Park) -> bool:
        if not delivery.redelivered or self._abandoned.is_set():
            return False
        try:
            return self._already_parked(delivery, parked.error.name, parked.targets)
        except Exception:
            log.exception("cannot find out whether message %s is parked already", one_line(delivery.message_id))
            return False

    def _waiting_message(self, delivery: Delivery, again: retry.Retry) -> OutgoingMessage:
        properties = copies.waiting_copy(
            delivery,
            again.error,
            again.targets,
            queue=self._queue,
            counts=again.counts,
            frame_max=self._publisher.frame_max,
        )
        return OutgoingMessage("", retry_queue(self._queue, again.delay), delivery.body, properties, mandatory=True)

    def _parked_message(self, delivery: Delivery, parked: retry.Park) -> OutgoingMessage:
        properties = copies.parked_copy(
            delivery,
            parked.error,
            parked.targets,
            datetime.now(timezone.utc),
            frame_max=self._publisher.frame_max,
        )
        return OutgoingMessage("", failed_queue(self._queue), delivery.body, properties, mandatory=True)

    def _record(self, write: Callable[[], OutgoingMessage]) -> bool:
        """Publish the message until the broker confirms it. Return False if that was abandoned."""
        key = object()
        try:
            return self._record_with_retries(key, write)
        finally:
            self._recording_problems.pop(key, None)

    def _record_with_retries(self, key: object, write: Callable[[], OutgoingMessage]) -> bool:
        backoff = Backoff()
        while not self._abandoned.is_set():
            try:
                self._publisher.publish(write(), alarm_seconds=math.inf)
            except BrokerError as error:
                self._recording_problems[key] = error.message
                log.error("cannot record an outcome; its message stays un-acked, trying again: %s", error.message)
                if isinstance(error, BrokerRefused):
                    self._restore_topology()
            except Exception as error:
                self._recording_problems[key] = f"an outcome cannot be published: {type(error).__name__}"
                log.exception("cannot publish an outcome; its message stays un-acked, trying again")
            else:
                return True
            self._abandoned.wait(backoff.next())
        return False


def result(message: ResultMessage, exchange: str, priority: int | None) -> OutgoingMessage:
    """Return the message that publishes a result.

    It is not mandatory: a bus without a monitor is no fault.
    """
    properties = BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=message.id,
        headers=message.headers,
        priority=priority,
    )
    return OutgoingMessage(exchange, message.topic, message.payload, properties)
