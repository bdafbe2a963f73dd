# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing points in time in texts from outside."""

from __future__ import annotations

import re
from datetime import datetime, timezone

LONGEST = 64
"""The maximum length of a time in characters."""

_FRACTION = re.compile(r"\.([0-9]{1,6})[0-9]*")


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time, with ``T`` or a space, and return it in UTC. Without an offset it is taken as UTC.

    Raises ValueError for anything else. It behaves the same on every Python; Python 3.10 itself accepts only fractions
    of three or six digits, and no ``Z``.
    """
    if len(text) > LONGEST:
        raise ValueError("is too long to be a time")
    plain = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text
    found = datetime.fromisoformat(_FRACTION.sub(lambda match: "." + match[1].ljust(6, "0"), plain))
    try:
        return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except OverflowError:
        raise ValueError("is out of range for a time") from None
