# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command with a temporary TMPDIR, which is removed however the command ends.

``python scripts/in_own_tmpdir.py COMMAND ARGUMENT…`` exits with the code of the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile


def main(command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="omps-worker-", ignore_cleanup_errors=True) as directory:
        child = subprocess.Popen(command, env={**os.environ, "TMPDIR": directory})
        # A terminal sends Ctrl-C to the command too. Signals that only this process gets are passed on.
        signal.signal(signal.SIGINT, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: child.send_signal(number))
        code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
