# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM for commands that do many things one after the other, so that each is done whole and counted."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from omps_worker.cli.common import tell

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_COUNTING = "omps_worker.cli.interrupts.counting"

Command = TypeVar("Command", bound=Callable[..., Any])


def interruptible(nothing: str) -> Callable[[Command], Command]:
    """Has a command that is interrupted while it still prepares itself say ``nothing``, what is done by then.

    Outermost, so that reading the configuration and connecting are such preparations. From ``counting`` on the command
    says for itself how far it got.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            with Interrupts():
                try:
                    return command(*arguments, **options)
                except KeyboardInterrupt:
                    if not click.get_current_context().meta.get(_COUNTING):
                        tell(f"ended early: {nothing}")
                    raise

        return wrapper  # type: ignore[return-value]

    return decorate


def counting() -> None:
    """From now on the command says how far it got."""
    click.get_current_context().meta[_COUNTING] = True


class Interrupts:
    """Makes KeyboardInterrupt of SIGINT and SIGTERM, as a context manager; in the main thread alone.

    What is done inside ``whole`` is not torn apart: the exception comes when it is over, unless somebody insists by a
    second signal.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._whole = False
        self._asked = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Something that is to be done whole, or else fail by itself. Raises KeyboardInterrupt after it."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False
        if self._asked:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._whole and not self._asked:
            self._asked = True
            return
        raise KeyboardInterrupt
