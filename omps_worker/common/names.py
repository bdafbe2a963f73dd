# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule for the names of organizations, repositories and catalogs, wherever such a name comes from."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_RULE = "use letters, digits, and . _ -, beginning with a letter or digit, at most 255 characters"


def is_name(text: str) -> bool:
    """Return whether ``text`` is a valid name of an organization (a namespace of the registry) or a repository."""
    return _NAME.fullmatch(text) is not None


def organization_name_fault(name: str) -> str | None:
    """Return why ``name`` is not a valid organization, or None if it is."""
    if is_name(name):
        return None
    return f"is not the name of an organization: {_RULE}"


def catalog_name_fault(name: str) -> str | None:
    """Return why ``name`` is not a valid name of a catalog in the configuration, or None if it is."""
    return None if is_name(name) else f"is not the name of a catalog: {_RULE}"


def repository_name_fault(name: str) -> str | None:
    """Return why ``name`` is not a valid repository, or None if it is."""
    return None if is_name(name) else f"is not the name of a repository: {_RULE}"
