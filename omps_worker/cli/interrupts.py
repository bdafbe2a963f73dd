# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM for commands that handle many messages: each message is handled completely, and counted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from omps_worker.cli.common import print_to_stderr

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_REPORTS_ITSELF = "omps_worker.cli.interrupts.reports_itself"


class InterruptibleCommand(click.Command):
    """A command that, if it is interrupted before it has begun, prints that nothing was done.

    ``nothing_done`` is the text, such as "0 messages replayed". Parsing options, reading the configuration and
    connecting come before the beginning. After ``reports_interrupts_itself``, the command itself prints how far it got.
    """

    def __init__(self, *arguments: Any, nothing_done: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._nothing_done = nothing_done

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the options."""
        with self._reporting_interrupts():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with self._reporting_interrupts():
            return super().invoke(ctx)

    @contextmanager
    def _reporting_interrupts(self) -> Iterator[None]:
        with Interrupts():
            try:
                yield
            except KeyboardInterrupt:
                context = click.get_current_context(silent=True)
                if context is None or not context.meta.get(_REPORTS_ITSELF):
                    print_to_stderr(f"ended early: {self._nothing_done}")
                raise


def reports_interrupts_itself() -> None:
    """Leave it to the running command to print how far it got, from now on."""
    click.get_current_context().meta[_REPORTS_ITSELF] = True


class Interrupts:
    """A context manager that turns SIGINT and SIGTERM into KeyboardInterrupt; it acts in the main thread only.

    Inside ``uninterrupted``, the exception is raised at the end of the block, or immediately at a second signal.
    """

    def __init__(self) -> None:
        self._previous_handlers: dict[signal.Signals, Any] = {}
        self._uninterrupted = False
        self._interrupted = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Run the block to its end; if a signal arrived meanwhile, raise KeyboardInterrupt after it."""
        self._uninterrupted = True
        try:
            yield
        finally:
            self._uninterrupted = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._uninterrupted and not self._interrupted:
            self._interrupted = True
            return
        raise KeyboardInterrupt
