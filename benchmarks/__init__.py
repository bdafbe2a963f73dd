# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks. Run them with ``make bench``."""
