# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``omps-worker``, as ``python -m omps_worker``."""

from omps_worker.cli import main

main(prog_name="omps-worker")
