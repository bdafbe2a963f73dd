# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection that locks belong to, run by a separate thread and shared by all threads of the process.

It is opened when a lock is first requested, and again when one is requested after the connection was lost. When it is
lost, all locks on it are lost at the same moment, on the broker's side, too. Each connection therefore has a number,
its session, and a holder names the session in which its lock was taken.
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
from omps_worker.broker.connection.timed import Blocked, TimedConnection, blocked_error
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.common import machine
from omps_worker.common.errors import BrokerBlocked, BrokerError, BrokerRefused, BrokerUnavailable

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""Timeout in seconds for an answer of the broker, including the time to connect."""

CLOSE_SECONDS = 2.0
"""Timeout in seconds for closing the connection."""

TURN_SECONDS = 1.0
LONGEST_PAUSE = 2.0
"""Longest pause in seconds between attempts to connect."""

T = TypeVar("T")


@dataclass(eq=False)
class _Task:
    action: Callable[[LockQueues], Any]
    session: int | None
    patient: bool
    """Whether the task waits for another attempt when one attempt to connect fails."""
    done: Future[Any] = field(default_factory=Future)


class LockConnection:
    """Runs actions on lock queues for any thread; ``do`` submits one. It connects automatically, in its own thread."""

    def __init__(self, access: BrokerAccess, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        # A frozen holder loses its locks after two or three heartbeats, which is less than others wait for a lock.
        self._access = access.with_heartbeat(HEARTBEAT_SECONDS)
        self._answer_seconds = answer_seconds
        self._changed = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._connection: BlockingConnection | None = None
        self._thread: threading.Thread | None = None
        self._must_reconnect = False
        self._closing = False
        self._session = 0

    def begin(self) -> None:
        """Begin to connect now, instead of when a lock is needed. Return at once. Raises ResourcesExhausted."""
        self._add(_Task(lambda _queues: None, None, patient=True))

    def do(
        self, action: Callable[[LockQueues], T], session: int | None = None, *, patient: bool = True
    ) -> tuple[T, int]:
        """Call ``action`` in the connection's thread; return its result, and the session in which it ran.

        With ``session``, the action runs only if that session is still the current one. Raises BrokerUnavailable if it
        is not, if there is no connection or no answer in time (without ``patient``: if one attempt to connect fails),
        or if the connection is lost in the meantime; BrokerRefused if the broker refuses; and ResourcesExhausted if the
        machine does not allow a thread for the connection.
        """
        task = _Task(action, session, patient)
        self._add(task)
        try:
            return cast("tuple[T, int]", task.done.result(self._answer_seconds))
        except TookTooLong:
            if not task.done.cancel():
                # The task may still take a lock that nobody releases, so the connection is closed, with all locks.
                self._must_reconnect = True
            raise BrokerUnavailable(
                f"The broker ({self._access.place}) has not answered a request about a lock within "
                f"{self._answer_seconds:g} s."
            ) from None
        finally:
            del task  # it may refer to the error that is raised, which would be a cycle

    def _add(self, task: _Task) -> None:
        with self._changed:
            if self._closing:
                raise BrokerUnavailable("The connection for locks is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="locks", daemon=True)
                machine.start(thread)
                self._thread = thread
            self._tasks.append(task)
        self._wake()

    def close(self) -> None:
        """Release all locks and disconnect."""
        with self._changed:
            self._closing = True
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
            connection = self._connection
        if connection is not None:
            # There is nothing to wake if the connection has ended.
            with contextlib.suppress(Exception):
                connection.add_callback_threadsafe(_nothing)

    # The methods below run in the connection's own thread.

    def _run(self) -> None:
        backoff = Backoff()
        while self._wait_for_task():
            error: BrokerError | None = None
            try:
                with _connected(self._access) as connection:
                    backoff.reset()
                    self._run_session(connection)
            except BrokerError as failure:
                error = failure.as_value()
            except Exception as failure:
                log.exception("the connection for locks failed unexpectedly")
                error = BrokerUnavailable(f"The connection for locks failed: {type(failure).__name__}.")
            self._end_session(error)
            if error is not None:
                log.warning("no connection for locks: %s", error.message)
                self._pause(min(backoff.next(), LONGEST_PAUSE))
        self._end_session(None)

    def _wait_for_task(self) -> bool:
        """Wait until a task needs a connection. Return False when closing."""
        with self._changed:
            while not self._tasks and not self._closing:
                self._changed.wait()
            return not self._closing

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _run_session(self, connection: BlockingConnection) -> None:
        queues = LockQueues(connection)
        limits = TimedConnection(connection)
        with limits.limit(self._answer_seconds):
            # A lock that is taken during an alarm can neither be used nor released before the alarm ends.
            queues.check_publishing()
        self._session += 1
        self._must_reconnect = False
        with self._changed:
            self._connection = connection
        while not self._closing:
            while not self._closing and (task := self._next()) is not None:
                self._perform(task, queues, limits)
            if limits.blocked is not None:
                raise Blocked(limits.blocked)
            if self._must_reconnect:
                raise BrokerUnavailable("An answer of the broker came too late; all locks are released.")
            connection.process_data_events(time_limit=TURN_SECONDS)

    def _next(self) -> _Task | None:
        with self._changed:
            return self._tasks.popleft() if self._tasks else None

    def _perform(self, task: _Task, queues: LockQueues, limits: TimedConnection) -> None:
        if task.session not in (None, self._session):
            _fail(task, self._lost())
            return
        if not task.done.set_running_or_notify_cancel():
            return
        try:
            with limits.limit(self._answer_seconds):
                result = task.action(queues)
        except BrokerError as error:
            task.done.set_exception(error.as_value())
        except Blocked as blocked:
            task.done.set_exception(blocked_error(self._access.place, str(blocked)))
            raise
        except BaseException:
            # A half-finished action is undone when the connection ends.
            task.done.set_exception(self._lost())
            raise
        else:
            task.done.set_result((result, self._session))

    def _end_session(self, error: BrokerError | None) -> None:
        """Fail the tasks that another connection cannot help; keep the others."""
        with self._changed:
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
        return BrokerUnavailable(f"The connection for locks to the broker ({self._access.place}) was lost.")


@contextlib.contextmanager
def _connected(access: BrokerAccess) -> Iterator[BlockingConnection]:
    connection, close_seconds = access.connect(), CLOSE_SECONDS
    try:
        yield connection
    except Blocked as blocked:
        close_seconds = 0.0
        raise blocked_error(access.place, str(blocked)) from None
    except (AMQPError, OSError) as error:
        raise access.as_broker_error(error) from None
    finally:
        timed.close(connection, close_seconds)


def _fail(task: _Task, error: BrokerError) -> None:
    if task.done.set_running_or_notify_cancel():
        task.done.set_exception(error)


def _nothing() -> None:
    """Do nothing: scheduling this call ends a wait."""
