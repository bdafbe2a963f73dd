# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for the names of organizations, repositories, catalogs and packages, wherever such a name comes from."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
PACKAGE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""The name of a package in a catalog: a DNS-1123 label. Match it whole."""
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


def package_name_fault(name: str) -> str | None:
    """Return why no package of a catalog can have the name ``name``, or None if one can."""
    if PACKAGE_NAME.fullmatch(name):
        return None
    return (
        "cannot be the name of a package in a catalog: use up to 63 lower-case letters, digits and dashes, beginning "
        "and ending with a letter or digit"
    )
