# SPDX-License-Identifier: GPL-3.0-or-later
"""The relevant messages that a worker has in hand: waiting, being worked on, finished.

They outlive the connection that brought them. When it is lost, work that was begun goes on; the
broker delivers its message again, and the new delivery joins the old work instead of doing it twice.
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
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.text import one_line
from omps_worker.common.tracebacks import let_go
from omps_worker.common.work_times import WorkTimes

log = logging.getLogger(__name__)

REMEMBERED = 256
"""How many finished messages are remembered, to ack a redelivery of one whose ack was lost."""

Perform = Callable[[Delivery, WorkerError | None], CompletedWork | None]


@dataclass(eq=False)
class _Work:
    delivery: Delivery
    """Its tag is where to ack it, if that channel still lives."""
    fault: WorkerError | None
    alone: bool = False
    done: CompletedWork | None = None
    followers: list[tuple[Delivery, WorkerError | None]] = field(default_factory=list)
    """Further copies of the very same message, to be looked at when this one is finished."""


class InFlight:
    """Belongs to the connection's thread; only ``perform`` and ``wake`` are called in others.

    While ``may_begin`` says no, what has come waits.
    """

    def __init__(
        self,
        perform: Perform,
        concurrency: int,
        wake: Callable[[], object],
        may_begin: Callable[[], bool] = lambda: True,
        observer: Observer = SILENT,
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
        """Whether nothing more is begun."""
        self.running = 0
        """How many messages are being worked on."""
        self.left_to_broker = False
        """Whether, while closing, something could not be acked, so that the broker redelivers it."""
        self.counts: Counter[str] = Counter()
        """How many messages ended as ``ignored:<reason>``, and how many outcomes had which status."""

    @property
    def waiting(self) -> int:
        """How many messages wait for a thread."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing at all is in hand."""
        return not self._works

    @property
    def alone(self) -> bool:
        """Whether something is in hand that was to be alone."""
        return any(work.alone for work in self._works.values())

    @property
    def oldest(self) -> float:
        """For how many seconds the oldest work has been under way; 0: none is."""
        return self._under_way.longest

    def attach(self, acks: Acks, generation: int) -> None:
        """From now on deliveries come from this channel. Raises ResourcesExhausted if there is no thread to work in."""
        self._threads.begin()
        self._acks, self._generation = acks, generation

    def detach(self) -> None:
        """The channel is gone: what was not begun comes again, and is forgotten here."""
        self._acks = None
        for work in self._waiting:
            del self._works[work.delivery.key]
        self._waiting.clear()
        for work in self._works.values():
            work.followers.clear()

    def knows(self, delivery: Delivery) -> bool:
        """Whether it is a new copy of what is in hand or finished here: ``take`` begins nothing for it."""
        known = self._works.get(delivery.key)
        if known is not None:
            return known.delivery.tag.generation != self._generation
        return delivery.redelivered and delivery.key in self._recent

    def take(self, delivery: Delivery, fault: WorkerError | None, *, alone: bool = False) -> None:
        """Work on a message as soon as there is a thread for it. ``alone`` is only remembered."""
        acks, tag, key = self._acks, delivery.tag.number, delivery.key
        if acks is None:
            return
        known = self._works.get(key)
        if known is not None and known.delivery.tag.generation == self._generation:
            acks.hold(tag)
            known.followers.append((delivery, fault))
        elif known is not None:
            log.info("message %s came again and is still being worked on", one_line(delivery.message_id))
            acks.hold(tag)
            known.delivery.tag = delivery.tag
        elif delivery.redelivered and key in self._recent:
            log.info("message %s came again though its outcome is recorded", one_line(delivery.message_id))
            acks.settle(tag)
        else:
            acks.hold(tag)
            work = self._works[key] = _Work(delivery, fault, alone)
            self._waiting.append(work)
            self._start_waiting()

    def collect(self) -> None:
        """Settle what is finished and begin what waits."""
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
        """Begin nothing more. Returns the tags of what was not begun, to be given back."""
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
        """Let the threads end when they have nothing left to do."""
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
            log.exception("message %s stays un-acked", one_line(work.delivery.message_id))
            let_go(error)
        self._finished.put(work)
        self._wake()

    def count_ignored(self, ignored: Ignored) -> None:
        """Count a message that there is nothing to do for, and say why."""
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
