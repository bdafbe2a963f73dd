# SPDX-License-Identifier: GPL-3.0-or-later
"""``InFlight``: the relevant messages that a worker has in flight: waiting, being processed, or finished.

They outlive the connection that delivered them. When the connection is lost, work that was begun continues. The broker
redelivers its message, and the new delivery joins the existing work instead of repeating it.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from omps_worker.broker.consuming.acks import Acks
from omps_worker.broker.consuming.delivery_worker import CompletedWork
from omps_worker.broker.delivery import Delivery
from omps_worker.common.errors import WorkerError
from omps_worker.common.machine import ThreadPool
from omps_worker.common.model import Ignored
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.text import one_line
from omps_worker.common.tracebacks import drop_tracebacks
from omps_worker.common.work_times import WorkTimes

log = logging.getLogger(__name__)

REMEMBERED = 256
"""How many finished messages are remembered, so that a redelivery of one whose ack was lost is only acked."""

Perform = Callable[[Delivery, WorkerError | None], CompletedWork | None]


@dataclass(eq=False)
class _Work:
    delivery: Delivery
    """The message. It is acked with this delivery's tag, if that channel still exists."""
    fault: WorkerError | None
    alone: bool = False
    done: CompletedWork | None = None
    followers: list[tuple[Delivery, WorkerError | None]] = field(default_factory=list)
    """Further copies of the same message, which are examined when this one is finished."""


class InFlight:
    """The messages in flight and the threads that process them.

    Use it in the connection's thread; only ``perform`` and ``wake`` are called in other threads. While ``may_begin``
    returns False, received messages wait.
    """

    def __init__(
        self,
        perform: Perform,
        concurrency: int,
        wake: Callable[[], object],
        may_begin: Callable[[], bool] = lambda: True,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._perform = perform
        self._concurrency = concurrency
        self._wake = wake
        self._may_begin = may_begin
        self._observer = observer
        self._threads = ThreadPool(concurrency)
        self._under_way = WorkTimes()
        self._works: dict[bytes, _Work] = {}
        self._waiting: deque[_Work] = deque()
        self._finished: SimpleQueue[_Work] = SimpleQueue()
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._acks: Acks | None = None
        self._generation = 0
        self.closing = False
        """Whether no more work is begun."""
        self.running = 0
        """The number of messages that are being processed."""
        self.left_to_broker = False
        """Whether, while closing, a message could not be acked, so that the broker redelivers it."""
        self.counts: Counter[str] = Counter()
        """How many messages ended as ``ignored:<reason>``, and how many outcomes had which status."""

    @property
    def waiting(self) -> int:
        """The number of messages that wait for a thread."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._works

    @property
    def alone(self) -> bool:
        """Whether a message is in flight that has to be alone."""
        return any(work.alone for work in self._works.values())

    @property
    def oldest(self) -> float:
        """For how many seconds the oldest work has been under way; 0: there is none."""
        return self._under_way.longest

    def attach(self, acks: Acks, generation: int) -> None:
        """Use this channel for deliveries from now on.

        Raises ResourcesExhausted if the machine does not allow the threads.
        """
        self._threads.begin()
        self._acks, self._generation = acks, generation

    def detach(self) -> None:
        """Forget the channel, which is gone, and the messages that were not begun: the broker redelivers them."""
        self._acks = None
        for work in self._waiting:
            del self._works[work.delivery.key]
        self._waiting.clear()
        for work in self._works.values():
            work.followers.clear()

    def knows(self, delivery: Delivery) -> bool:
        """Return whether this is another delivery of a message that is in flight or finished.

        ``take`` begins no work for such a delivery.
        """
        known = self._works.get(delivery.key)
        if known is not None:
            return known.delivery.tag.generation != self._generation
        return delivery.redelivered and delivery.key in self._recent

    def take(self, delivery: Delivery, fault: WorkerError | None, *, alone: bool = False) -> None:
        """Process a message as soon as a thread is free.

        ``alone``: no other message may be in flight. The caller ensures that; here it only sets the property ``alone``.
        """
        acks, tag, key = self._acks, delivery.tag.number, delivery.key
        if acks is None:
            return
        known = self._works.get(key)
        if known is not None and known.delivery.tag.generation == self._generation:
            acks.hold(tag)
            known.followers.append((delivery, fault))
        elif known is not None:
            log.info("message %s was redelivered and is still being processed", one_line(delivery.message_id))
            acks.hold(tag)
            known.delivery.tag = delivery.tag
        elif delivery.redelivered and key in self._recent:
            log.info("message %s was redelivered although its outcome is recorded", one_line(delivery.message_id))
            acks.settle(tag)
        else:
            acks.hold(tag)
            work = self._works[key] = _Work(delivery, fault, alone)
            self._waiting.append(work)
            self._start_waiting()

    def collect(self) -> None:
        """Settle what is finished, and begin what waits."""
        while True:
            try:
                work = self._finished.get_nowait()
            except Empty:
                break
            self.running -= 1
            del self._works[work.delivery.key]
            self._account_for(work)
            for delivery, fault in work.followers:
                self.take(delivery, fault)
        self._start_waiting()

    def close(self) -> list[int]:
        """Begin no more work; return the tags of the messages that were not begun.

        The caller returns these messages to the broker.
        """
        self.closing = True
        untouched = [work.delivery for work in self._waiting]
        for work in self._works.values():
            untouched += [delivery for delivery, _fault in work.followers]
            work.followers.clear()
        for work in self._waiting:
            del self._works[work.delivery.key]
        self._waiting.clear()
        tags = [delivery.tag.number for delivery in untouched if delivery.tag.generation == self._generation]
        for tag in tags:
            if self._acks is not None:
                self._acks.drop(tag)
        return tags

    def end_threads(self) -> None:
        """Let the threads end when they have no more work."""
        self._threads.close()

    def _start_waiting(self) -> None:
        while self._waiting and self.running < self._concurrency and not self.closing and self._may_begin():
            work = self._waiting.popleft()
            self.running += 1
            self._threads.submit(partial(self._work_on, work))

    def _work_on(self, work: _Work) -> None:
        try:
            with self._under_way.measure():
                work.done = self._perform(work.delivery, work.fault)
        except BaseException as error:
            log.exception("message %s stays un-acked because of an exception", one_line(work.delivery.message_id))
            drop_tracebacks(error)
        self._finished.put(work)
        self._wake()

    def count_ignored(self, ignored: Ignored) -> None:
        """Count a message that needs no work, and log the reason."""
        self.counts[f"ignored:{ignored.reason}"] += 1
        self._observer.ignored(ignored.reason)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("ignored: %s %s", ignored.reason, one_line(ignored.detail))

    def _account_for(self, work: _Work) -> None:
        current = self._acks if work.delivery.tag.generation == self._generation else None
        if work.done is None or (current is None and self.closing):
            self.left_to_broker = True
        if work.done is None:
            return
        if work.done.ignored is not None:
            self.count_ignored(work.done.ignored)
        self.counts.update(str(status) for status in work.done.statuses)
        self._recent[work.delivery.key] = None
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        if current is not None:
            current.settle(work.delivery.tag.number)
