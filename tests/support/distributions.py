# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributions for tests, which are not installed."""

from __future__ import annotations

from scripts.distributions import Distribution


def distribution(name: str = "something", version: str = "1.0", **about) -> Distribution:
    """Return a distribution whose metadata is empty, except for what is given."""
    empty = {"summary": "", "requires": (), "expression": "", "licence": "", "classifiers": ()}
    return Distribution(name=name, version=version, **{**empty, **about})
