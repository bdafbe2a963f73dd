# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins: the version of each package for each Python, as lines of a requirements file.

These functions are pure. ``scripts.constraints`` resolves the versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Pins = Mapping[str, str]
"""Versions by canonical package name."""

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def lines(by_python: Mapping[str, Pins], hashes: Mapping[tuple[str, str], Sequence[str]] | None = None) -> list[str]:
    """Return one line for each version of each package, with a marker only if the Pythons differ.

    ``by_python`` has a key such as "3.11" for each Python, in ascending order. The pins of the oldest Python also apply
    to older ones, and those of the newest also to newer ones. ``hashes`` are the hashes of the files that may be
    installed, by name and version.
    """
    pythons = list(by_python)
    written = []
    for name in sorted({name for pins in by_python.values() for name in pins}):
        # A pin for a Python that does not need the package does no harm.
        versions = {python: pins[name] for python, pins in by_python.items() if name in pins}
        wanted = [versions.get(python) for python in pythons]
        if hashes is None and len(set(versions.values())) == 1:
            wanted = [next(iter(versions.values()))] * len(pythons)
        for begin, end in _runs(wanted):
            version = wanted[begin]
            if version is None:
                continue
            conditions = [f'python_version >= "{python}"' for python in pythons[begin : begin + 1] if begin > 0]
            conditions += [f'python_version < "{python}"' for python in pythons[end : end + 1]]
            line = f"{name}=={version}" + ("; " + " and ".join(conditions) if conditions else "")
            allowed = hashes[name, version] if hashes is not None else ()
            written.append(" \\\n".join([line, *(f"    --hash={one}" for one in sorted(allowed))]))
    return written


def _runs(wanted: Sequence[str | None]) -> Iterable[tuple[int, int]]:
    begin = 0
    for index in range(1, len(wanted) + 1):
        if index == len(wanted) or wanted[index] != wanted[begin]:
            yield begin, index
            begin = index


def parse(text: str) -> list[tuple[Requirement, tuple[str, ...]]]:
    """Return the requirements in the text of a file, with their hashes. Raises ValueError for anything else in it."""
    found = []
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        bare, *rest = re.split(r"\s+(?=--)", line)
        matched = [_HASH.fullmatch(word.strip()) for word in rest]
        if not bare or not all(matched):
            raise ValueError(f"is not a pin: {line[:200]}")
        found.append((Requirement(bare), tuple(match[1] for match in matched if match)))
    return found


def of_python(requirements: Iterable[Requirement], python: str) -> dict[str, str]:
    """Return the versions for one Python, such as "3.11". Raises ValueError if a package has no single version."""
    pins: dict[str, str] = {}
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"python_version": python}):
            continue
        specifiers = list(requirement.specifier)
        name = canonicalize_name(requirement.name)
        if len(specifiers) != 1 or specifiers[0].operator != "==" or "*" in specifiers[0].version or name in pins:
            raise ValueError(f"does not pin {name} to one version for Python {python}")
        pins[name] = specifiers[0].version
    return pins


def closure(report: Mapping[str, object], root: str, extras: Iterable[str]) -> set[str]:
    """Return the canonical names of what ``root`` with ``extras`` needs, without itself, according to pip's report."""
    environment: dict[str, str] = dict(report["environment"])  # type: ignore[call-overload]
    needs: dict[str, list[Requirement]] = {}
    for item in report["install"]:  # type: ignore[attr-defined]
        about = item["metadata"]
        needs[canonicalize_name(about["name"])] = [Requirement(text) for text in about.get("requires_dist", [])]
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = [(root, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in needs[name]:
            if applies(requirement.marker, {**environment, "extra": extra}):
                wanted = canonicalize_name(requirement.name)
                waiting += [(wanted, wanted_extra) for wanted_extra in ("", *requirement.extras)]
    return {name for name, _ in seen} - {root}


def applies(marker: Marker | None, environment: Mapping[str, str]) -> bool:
    """Return whether a requirement with ``marker`` applies in ``environment``."""
    return marker is None or marker.evaluate(dict(environment))
