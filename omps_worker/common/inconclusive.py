# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a check that cannot be decided."""

from __future__ import annotations


class Inconclusive(Exception):
    """A check can say neither yes nor no. The text says why."""
