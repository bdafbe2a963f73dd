# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared building blocks for all packages: errors, data classes, times, text, limits, locks and threads.

May know: nothing else of omps_worker. Code that only one package needs belongs in that package.
"""
