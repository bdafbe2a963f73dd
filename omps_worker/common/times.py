# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in time as texts from outside have them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

LONGEST = 64
"""How many characters a time has at most."""

_FRACTION = re.compile(r"\.([0-9]{1,6})[0-9]*")


def moment(text: str) -> datetime:
    """ISO 8601 with ``T`` or a space, in UTC; without an offset it is meant as UTC.

    Raises ValueError for anything else. The same on every Python: 3.10 alone would take a
    fraction of three or six digits only, and no ``Z``.
    """
    if len(text) > LONGEST:
        raise ValueError("is too long for a time")
    plain = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text
    found = datetime.fromisoformat(_FRACTION.sub(lambda match: "." + match[1].ljust(6, "0"), plain))
    try:
        return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except OverflowError:
        raise ValueError("lies outside of all calendars") from None
