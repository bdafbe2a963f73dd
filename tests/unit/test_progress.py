# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress on a terminal, and silence elsewhere."""

from __future__ import annotations

import io

from omps_worker.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_what_is_being_done_and_nothing_of_it_afterwards():
    terminal = Terminal()
    with Progress(terminal) as progress:
        progress.show("asking: broker")
        progress.show("asking: Koji\nhub")
    assert terminal.getvalue() == "\r\x1b[Kasking: broker …\r\x1b[Kasking: Koji hub …\r\x1b[K"


def test_a_file_sees_nothing():
    file = io.StringIO()
    with Progress(file) as progress:
        progress.show("asking: broker")
    assert file.getvalue() == ""
