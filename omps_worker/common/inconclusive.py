# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a check that are neither yes nor no."""

from __future__ import annotations


class Inconclusive(Exception):
    """A check that can neither say yes nor no; its text says why."""
