# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributions that nobody installed."""

from __future__ import annotations

from scripts.distributions import Distribution


def distribution(name: str = "something", version: str = "1.0", **about) -> Distribution:
    """One that says nothing but what is given."""
    empty = {"summary": "", "requires": (), "expression": "", "licence": "", "classifiers": ()}
    return Distribution(name=name, version=version, **{**empty, **about})
