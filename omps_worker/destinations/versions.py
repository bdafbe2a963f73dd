# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions of releases.

The registry accepts exactly three dot-separated integers without leading zeros (measured: '1.0', 'v1.0.0' and '01.0.0'
are refused with 422), and so did OMPS. There are three ways to choose a version: increment the highest one that exists,
take the version of the operator's own CSV, or use a template.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from functools import lru_cache

from semver import Version

from omps_worker.common.errors import OMPSInvalidVersionFormat
from omps_worker.common.model import Build

INCREMENT = "increment"
CSV = "csv"
FIELDS = ("name", "version", "release", "build_id")
"""The fields of a build that a template may contain, in braces."""

_VERSION = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}")
_LONGEST = 128


def is_valid(text: str) -> bool:
    """Return whether ``text`` is a version that a release may have."""
    return len(text) <= _LONGEST and _VERSION.fullmatch(text) is not None


def checked(text: object, origin: str) -> str:
    """Return ``text`` if it is a valid version; else raise OMPSInvalidVersionFormat, which names ``origin``."""
    if isinstance(text, str) and is_valid(text):
        return text
    shown = repr(text) if len(repr(text)) <= _LONGEST else repr(text)[:_LONGEST] + "…"
    raise OMPSInvalidVersionFormat(
        f"Version {shown} ({origin}) must be three integers joined by dots, without leading zeros, like 1.0.0."
    )


def highest(versions: Iterable[str]) -> str | None:
    """Return the highest valid version in numeric order, or None if there is none. Other formats are ignored."""
    valid = [Version.parse(text) for text in versions if is_valid(text)]
    return str(max(valid)) if valid else None


def increment(versions: Iterable[str], default: str) -> str:
    """Return the version after ``versions``: the major number of the highest valid one plus 1, followed by ``.0.0``.

    If none is valid, return ``default``. This is OMPS's rule. If the highest release was deleted, its number is used
    again.
    """
    last = highest(versions)
    return default if last is None else str(Version.parse(last).bump_major())


def fields_of(template: str) -> frozenset[str]:
    """Return the names in braces in ``template``.

    Raises ValueError if the template is not valid, names anything but FIELDS, or has conversions, format
    specifications, attributes or indexes: a template only joins values.
    """
    names: set[str] = set()
    for _, name, specification, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if name not in FIELDS:
            raise ValueError(f"{{{name}}} is not a known field; use {', '.join(f'{{{field}}}' for field in FIELDS)}")
        if specification or conversion:
            raise ValueError(f"{{{name}}} takes no conversion and no format specification")
        names.add(name)
    return frozenset(names)


def render(template: str, build: Build | None) -> str:
    """Return the version that ``template`` gives for ``build``. Raises OMPSInvalidVersionFormat if it gives none."""
    values: Mapping[str, str] = (
        {"name": build.name, "version": build.version, "release": build.release, "build_id": str(build.id)}
        if build is not None
        else {}
    )
    return checked(_rendered(template, tuple(sorted(values.items()))), f"from the template {template!r}")


@lru_cache(maxsize=256)
def _rendered(template: str, values: tuple[tuple[str, str], ...]) -> str:
    fields = dict(values)
    try:
        needed = fields_of(template)
    except ValueError as error:
        raise OMPSInvalidVersionFormat(f"The version template {template!r} cannot be used: {error}.") from None
    missing = sorted(needed - fields.keys())
    if missing:
        raise OMPSInvalidVersionFormat(
            f"The version template {template!r} needs {', '.join(missing)} of a build, but there is no build."
        )
    return template.format_map(fields)


def wanted(rule: str, build: Build | None, csv_version: str | None) -> str | None:
    """Return the version that ``rule`` fixes, or None if the version is to be incremented.

    ``rule`` is ``increment``, ``csv``, a template, or a version (a template without names). Raises
    OMPSInvalidVersionFormat; only another build or another rule can help.
    """
    if rule == INCREMENT:
        return None
    if rule != CSV:
        return render(rule, build)
    if csv_version is None:
        raise OMPSInvalidVersionFormat(
            "The mapping takes the version from the CSV, but the package names no default channel whose "
            "currentCSV is among the manifests and has a spec.version."
        )
    return checked(csv_version, "spec.version of the default channel's CSV")
