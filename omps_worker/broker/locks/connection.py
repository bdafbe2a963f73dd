# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection that locks belong to: in a thread of its own, for all threads of this process.

It is made when a lock is first asked for, and again when one is asked for after it was lost. When
it is lost, so are all locks on it, at once and on the broker's side too. So each connection has a
number, its session, and who holds a lock names the session that it was taken in.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError

from omps_worker.broker.connection import timed
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.backoff import Backoff
from omps_worker.broker.connection.parameters import HEARTBEAT_SECONDS
from omps_worker.broker.connection.timed import Blocked, TimedConnection, takes_nothing
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.common import machine
from omps_worker.common.errors import BrokerBlocked, BrokerError, BrokerRefused, BrokerUnavailable

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""How long the broker may take for an answer, a connection to it included."""

CLOSE_SECONDS = 2.0
"""How long saying goodbye may take."""

TURN_SECONDS = 1.0
LONGEST_PAUSE = 2.0
"""Seconds between tries to connect, while somebody waits for a lock."""

T = TypeVar("T")


@dataclass(eq=False)
class _Task:
    act: Callable[[LockQueues], Any]
    session: int | None
    patient: bool
    """It waits for another try to connect when one failed."""
    done: Future[Any] = field(default_factory=Future)


class LockConnection:
    """``do`` things with lock queues, from any thread. Connects by itself, in its own thread."""

    def __init__(self, where: BrokerAccess, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        # A frozen holder loses its locks after two or three times as long: less than others wait for one.
        self._where = where.with_heartbeat(HEARTBEAT_SECONDS)
        self._answer_seconds = answer_seconds
        self._news = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._connection: BlockingConnection | None = None
        self._thread: threading.Thread | None = None
        self._doubtful = False
        self._closing = False
        self._session = 0

    def begin(self) -> None:
        """Begin to connect, instead of when somebody needs it. Returns at once. Raises ResourcesExhausted."""
        self._add(_Task(lambda _queues: None, None, patient=True))

    def do(self, act: Callable[[LockQueues], T], session: int | None = None, *, patient: bool = True) -> tuple[T, int]:
        """Call ``act`` in the connection's thread; returns its result, and the session it ran in.

        With ``session``: only if that is still the session. Raises BrokerUnavailable if it is not,
        if there is no connection or no answer in time (without ``patient``: if one try to connect
        fails), or if the connection is lost meanwhile; BrokerRefused if the broker refuses; and
        ResourcesExhausted if there is no thread for the connection.
        """
        task = _Task(act, session, patient)
        self._add(task)
        try:
            return cast("tuple[T, int]", task.done.result(self._answer_seconds))
        except TookTooLong:
            if not task.done.cancel():
                # What becomes of it is not known, nor what is locked then: let go of everything.
                self._doubtful = True
            raise BrokerUnavailable(
                f"The broker ({self._where.place}) has not answered a question about a lock within "
                f"{self._answer_seconds:g} s."
            ) from None
        finally:
            del task  # it may hold the error that is raised

    def _add(self, task: _Task) -> None:
        with self._news:
            if self._closing:
                raise BrokerUnavailable("The connection for locks is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="locks", daemon=True)
                machine.start(thread)
                self._thread = thread
            self._tasks.append(task)
        self._wake()

    def close(self) -> None:
        """Let go of all locks and disconnect."""
        with self._news:
            self._closing = True
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()
            connection = self._connection
        if connection is not None:
            # A connection that has ended needs no waking.
            with contextlib.suppress(Exception):
                connection.add_callback_threadsafe(_nothing)

    # From here on everything runs in the connection's own thread.

    def _run(self) -> None:
        backoff = Backoff()
        while self._wanted():
            error: BrokerError | None = None
            try:
                with _connected(self._where) as connection:
                    backoff.reset()
                    self._converse(connection)
            except BrokerError as failure:
                error = failure.as_value()
            except Exception as failure:
                log.exception("the connection for locks ended in an exception that nobody thought of")
                error = BrokerUnavailable(f"The connection for locks failed: {type(failure).__name__}.")
            self._end_session(error)
            if error is not None:
                log.warning("no connection for locks: %s", error.message)
                self._pause(min(backoff.next(), LONGEST_PAUSE))
        self._end_session(None)

    def _wanted(self) -> bool:
        """Wait until somebody needs a connection; False when closing."""
        with self._news:
            while not self._tasks and not self._closing:
                self._news.wait()
            return not self._closing

    def _pause(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._closing, seconds)

    def _converse(self, connection: BlockingConnection) -> None:
        queues = LockQueues(connection)
        limits = TimedConnection(connection)
        with limits.to(self._answer_seconds):
            # A lock that is taken in an alarm can neither be used nor given back before its end.
            queues.ask()
        self._session += 1
        self._doubtful = False
        with self._news:
            self._connection = connection
        while not self._closing:
            while not self._closing and (task := self._next()) is not None:
                self._perform(task, queues, limits)
            if limits.blocked is not None:
                raise Blocked(limits.blocked)
            if self._doubtful:
                raise BrokerUnavailable("An answer of the broker came too late: all locks are given up.")
            connection.process_data_events(time_limit=TURN_SECONDS)

    def _next(self) -> _Task | None:
        with self._news:
            return self._tasks.popleft() if self._tasks else None

    def _perform(self, task: _Task, queues: LockQueues, limits: TimedConnection) -> None:
        if task.session not in (None, self._session):
            _fail(task, self._lost())
            return
        if not task.done.set_running_or_notify_cancel():
            return
        try:
            with limits.to(self._answer_seconds):
                result = task.act(queues)
        except BrokerError as error:
            task.done.set_exception(error.as_value())
        except Blocked as blocked:
            task.done.set_exception(takes_nothing(self._where.place, str(blocked)))
            raise
        except BaseException:
            # Whatever is half done on this connection is undone with it.
            task.done.set_exception(self._lost())
            raise
        else:
            task.done.set_result((result, self._session))

    def _end_session(self, error: BrokerError | None) -> None:
        """Tell those who cannot be helped by another connection."""
        with self._news:
            self._connection = None
            tasks, self._tasks = self._tasks, deque()
            for task in tasks:
                if self._closing:
                    _fail(task, BrokerUnavailable("The connection for locks is closed."))
                elif isinstance(error, BrokerBlocked):
                    _fail(task, error)
                elif task.session is not None:
                    _fail(task, self._lost())
                elif error is not None and (isinstance(error, BrokerRefused) or not task.patient):
                    _fail(task, error)
                elif not task.done.cancelled():
                    self._tasks.append(task)

    def _lost(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"The connection to the broker ({self._where.place}) that locks belong to was lost.")


@contextlib.contextmanager
def _connected(where: BrokerAccess) -> Iterator[BlockingConnection]:
    connection, goodbye = where.connect(), CLOSE_SECONDS
    try:
        yield connection
    except Blocked as blocked:
        goodbye = 0.0
        raise takes_nothing(where.place, str(blocked)) from None
    except (AMQPError, OSError) as error:
        raise where.named(error) from None
    finally:
        timed.close(connection, goodbye)


def _fail(task: _Task, error: BrokerError) -> None:
    if task.done.set_running_or_notify_cancel():
        task.done.set_exception(error)


def _nothing() -> None:
    """Called to end a wait."""
