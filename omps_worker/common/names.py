# SPDX-License-Identifier: GPL-3.0-or-later
"""What organizations and repositories can be called: one rule, wherever such a name comes from."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_RULE = "a letter or digit, then letters, digits, and . _ -, 255 at most"


def is_name(text: str) -> bool:
    """Whether an organization (a namespace of the registry) or a repository can be called that."""
    return _NAME.fullmatch(text) is not None


def organization_name_fault(name: str) -> str | None:
    """Why ``name`` cannot be an organization; None if it can."""
    if is_name(name):
        return None
    return f"is not the name of an organization: {_RULE}"


def repository_name_fault(name: str) -> str | None:
    """Why ``name`` cannot be a repository; None if it can."""
    return None if is_name(name) else f"is not the name of a repository: {_RULE}"
