# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that all run-time dependencies of the package may be distributed with it: ``python -m scripts.licences``.

Reads only the installed distributions, without network. Exits with 1 and says what to do if a licence is not known to
be compatible.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from scripts.distributions import Distribution, needed

FIT = {
    "0BSD": "asks for nothing",
    "Apache-2.0": "compatible with version 3 of the GPL, though not with version 2",
    "BSD-2-Clause": "permissive, without the advertising clause",
    "BSD-3-Clause": "permissive, without the advertising clause",
    "GPL-2.0-or-later": "lets us choose version 3",
    "GPL-3.0-or-later": "ours",
    "ISC": "permissive",
    "LGPL-2.1-only": "its section 3 lets us take the GPL instead, in any version since 2",
    "LGPL-2.1-or-later": "lets us choose version 3",
    "LGPL-3.0-or-later": "its terms are the GPL's and a further permission",
    "MIT": "permissive",
    "MIT-0": "permissive, without even the notice",
    "MPL-2.0": "its section 3.3 allows a larger work under the GPL, unless a file says otherwise",
    "PSF-2.0": "permissive; the Python licences since 2.1.1 are compatible with the GPL",
    "Unlicense": "a dedication to the public",
    "ZPL-2.1": "permissive, without the clauses on trade marks that made version 1 unfit",
    "Zlib": "permissive",
}
"""SPDX identifiers of licences whose code may be part of a work under GPL-3.0-or-later, each with the reason."""

SAID = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3+": "GPL-3.0-or-later",
    "isc license": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "psfl": "PSF-2.0",
    "osi approved :: apache software license": "Apache-2.0",
    "osi approved :: gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later",
    "osi approved :: gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "osi approved :: isc license (iscl)": "ISC",
    "osi approved :: mit license": "MIT",
    "osi approved :: mit no attribution license (mit-0)": "MIT-0",
    "osi approved :: mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "osi approved :: python software foundation license": "PSF-2.0",
    "osi approved :: the unlicense (unlicense)": "Unlicense",
    "osi approved :: zope public license": "ZPL-2.1",
}
"""Licence names in metadata that can mean only one licence. "BSD" can mean several, so it is not listed."""

JUDGED = {
    "koji": (
        "LGPL-2.1-only AND GPL-2.0-or-later",
        "its files carry the notice of LGPL 2.1, and rpmdiff.py that of the GPL",
    ),
    "semantic-version": ("BSD-2-Clause", "says BSD; its file LICENSE has the two clauses"),
}
"""Distributions whose metadata is too vague, with the licence that their files state."""


def licence_of(distribution: Distribution) -> str | None:
    """Return the licence as an SPDX expression, or None if it does not follow from the metadata.

    The order of precedence is: its SPDX expression, ``JUDGED``, its own words, its classifiers.
    """
    if distribution.expression:
        return distribution.expression
    if distribution.name in JUDGED:
        return JUDGED[distribution.name][0]
    for words in (distribution.licence, *distribution.classifiers):
        known = {name.lower(): name for name in FIT}.get(words.lower()) or SAID.get(words.lower())
        if known:
            return known
    return None


def is_fit(expression: str) -> bool:
    """Return whether an SPDX expression is compatible with GPL-3.0-or-later. Raises ValueError if it is invalid."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    fit, rest = _either(words)
    if rest:
        raise ValueError(f"is not a licence expression: {expression[:200]}")
    return fit


def _either(words: list[str]) -> tuple[bool, list[str]]:
    fit, words = _both(words)
    while words and words[0].upper() == "OR":
        another, words = _both(words[1:])
        fit = fit or another
    return fit, words


def _both(words: list[str]) -> tuple[bool, list[str]]:
    fit, words = _one(words)
    while words and words[0].upper() == "AND":
        another, words = _one(words[1:])
        fit = fit and another
    return fit, words


def _one(words: list[str]) -> tuple[bool, list[str]]:
    if words and words[0] == "(":
        fit, words = _either(words[1:])
        if words[:1] != [")"]:
            raise ValueError("a bracket is not closed")
        return fit, words[1:]
    if not words or words[0] == ")" or words[0].upper() in ("AND", "OR", "WITH"):
        raise ValueError("a licence is missing")
    fit, words = words[0] in FIT, words[1:]
    # An exception only adds permissions to the licence before it.
    return fit, words[2:] if len(words) > 1 and words[0].upper() == "WITH" else words


def faults(distributions: Iterable[Distribution]) -> list[str]:
    """Return one sentence for each distribution with a licence problem, with what to do about it."""
    sentences = []
    for distribution in distributions:
        name = f"{distribution.name} {distribution.version}"
        expression = licence_of(distribution)
        metadata = "; ".join(filter(None, (distribution.expression, distribution.licence, *distribution.classifiers)))
        metadata = re.sub(r"[^ -~]", "?", metadata)[:200] or "nothing"
        try:
            if expression is None:
                sentences.append(
                    f"{name}: its licence is not clear; it says: {metadata}. Read the licence in its files, "
                    "and add the distribution to JUDGED in scripts/licences.py, with the reason."
                )
            elif not is_fit(expression):
                sentences.append(
                    f"{name}: {expression} is not known to be compatible with GPL-3.0-or-later. Remove the dependency; "
                    "or if the licence is compatible, add it to FIT in scripts/licences.py, with the reason."
                )
        except ValueError as error:
            sentences.append(f"{name}: its licence expression cannot be read ({error}); it says: {metadata}.")
    return sentences


def main() -> int:
    """Print what is wrong, and return 1 if anything is."""
    distributions = needed()
    wrong = faults(distributions.values())
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if not wrong:
        print(f"{len(distributions)} distributions, all with licences that are compatible with GPL-3.0-or-later")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
