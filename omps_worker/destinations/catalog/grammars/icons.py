# SPDX-License-Identifier: GPL-3.0-or-later
"""The icon of a package. One that is no base64 makes a whole catalog unreadable, so it is checked here."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

Icon = Mapping[str, str]
"""``base64data`` and ``mediatype``, as ``olm.package`` has them."""


def icon_of(spec: Mapping[Any, Any]) -> tuple[Icon | None, str | None]:
    """Return the first icon of a CSV's spec, without line breaks, or why it is left out.

    Both are None if there is no icon.
    """
    icons = spec.get("icon")
    if icons is None:
        return None, None
    first = next(iter(icons), None) if isinstance(icons, list) else icons
    if first is None:
        return None, None
    if not isinstance(icons, list) or not isinstance(first, dict):
        return None, "its icon is no list of mappings, and is left out"
    data, media_type = first.get("base64data"), first.get("mediatype")
    if data in (None, ""):
        return None, None
    if not isinstance(data, str) or not isinstance(media_type, str | None):
        return None, "its icon has values that are no text, and is left out"
    data = data.replace("\r", "").replace("\n", "")
    if not is_base64(data):
        return None, "its icon is no base64, and is left out: it would make the whole catalog unreadable"
    return {"base64data": data, "mediatype": media_type or ""}, None


def is_base64(data: str) -> bool:
    """Return whether opm can read ``data`` as base64; it ignores line breaks."""
    try:
        base64.b64decode(data.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
