# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM for commands that do many things one after the other, so that each is done whole and counted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from omps_worker.cli.common import tell

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_COUNTING = "omps_worker.cli.interrupts.counting"


class InterruptibleCommand(click.Command):
    """A command that says ``nothing``, what is done by then, when it is interrupted while it still prepares itself.

    Reading options and configuration, and connecting, are such preparations. From ``counting`` on the command says for
    itself how far it got.
    """

    def __init__(self, *arguments: Any, nothing: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._nothing = nothing

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the options."""
        with self._told():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with self._told():
            return super().invoke(ctx)

    @contextmanager
    def _told(self) -> Iterator[None]:
        with Interrupts():
            try:
                yield
            except KeyboardInterrupt:
                context = click.get_current_context(silent=True)
                if context is None or not context.meta.get(_COUNTING):
                    tell(f"ended early: {self._nothing}")
                raise


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
