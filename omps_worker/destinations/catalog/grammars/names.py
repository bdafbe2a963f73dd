# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that clusters take. opm takes any text, but what has another name can be installed nowhere."""

from __future__ import annotations

import re

OBJECT_NAME_LENGTH = 253
"""How many characters the name of an object in Kubernetes may have."""

_PART = r"[a-z0-9](?:[-a-z0-9+]*[a-z0-9])?"
_OBJECT_NAME = re.compile(rf"{_PART}(?:\.{_PART})*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CHANNEL = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.+]*[A-Za-z0-9])?")


def csv_name_fault(name: str) -> str | None:
    """Return why no cluster takes a CSV with that name; None if one may.

    Kubernetes wants a DNS-1123 subdomain. A ``+`` is let through, because bundles are named after their versions, which
    may have it.
    """
    if len(name) > OBJECT_NAME_LENGTH:
        return f"has more than {OBJECT_NAME_LENGTH} characters, so it cannot be the name of an object in Kubernetes"
    if _OBJECT_NAME.fullmatch(name):
        return None
    return (
        "cannot be the name of an object in Kubernetes: such names are lower-case letters, digits, dashes and dots, "
        "each part between dots with a letter or digit first and last"
    )


def edge_fault(name: str) -> str | None:
    """Return why a catalog cannot name a CSV so that another replaces or skips; None if it can.

    Such a CSV need not exist, so any text will do that can be shown.
    """
    return "has control characters" if _CONTROL.search(name) else None


def channel_name_fault(name: str) -> str | None:
    """Return why a channel cannot have that name; None if it can."""
    if len(name) > OBJECT_NAME_LENGTH:
        return f"has more than {OBJECT_NAME_LENGTH} characters"
    if _CHANNEL.fullmatch(name):
        return None
    return (
        "cannot be the name of a channel: such names are letters, digits, dashes, dots, underscores and plus signs, a "
        "letter or digit first and last"
    )
