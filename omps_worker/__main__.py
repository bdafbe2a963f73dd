# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m omps_worker`` is ``omps-worker``."""

from omps_worker.cli import main

main(prog_name="omps-worker")
