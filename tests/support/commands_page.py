# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of docs/commands.md: the section of each command, its options, and its examples."""

from __future__ import annotations

import re

from tests.support.sources import ROOT

TEXT = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
LEFT_OUT = "…"
"""A line that stands for any number of lines."""

_VARYING = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d+)?(Z|\+00:00)?", "TIME"),
    (r"^\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b127\.0\.0\.1(:|, port )\d+", "ADDRESS"),
    (r"\bvirtual host \S+?(?=;|$)", "virtual host V"),
    (r"\bseconds=[\d.]+", "seconds=N"),
    # The images are part of a package, and the registry's address of the images.
    (r"(catalog:\S+ \S+ \[digest=)[0-9a-f]+", r"\1DIGEST"),
    (r"(catalog:\S+: )[0-9a-f]{64}$", r"\1DIGEST"),
    (r"^( *)\d+\.\d s ", r"\1N s "),
    (r"\bversion \d+\.\d+\.\d+\S*", "version N"),
    (r"\btemporary files in \S+", "temporary files in PLACE"),
    (r"-{3,}", "---"),
    (r"(?<=\S) {2,}", "  "),
    (r" +$", ""),
)


def sections() -> dict[str, str]:
    """Return the section of each command, by the command's words; "" is the program itself."""
    parts = re.split(r"^#{2,} `omps-worker ?(.*)`$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(section: str) -> dict[str, str]:
    """Return the meaning of each option in a section's table."""
    rows = re.findall(r"^\| `(--.+?)` \| (.+) \|$", section, re.MULTILINE)
    return {name.split()[0]: meaning.replace("\\|", "|") for name, meaning in rows}


def examples() -> dict[str, tuple[str, str]]:
    """Return the example of each command, by its words: the command line without the program's name, and the output."""
    found = {}
    for words, section in sections().items():
        for line, output in re.findall(r"^```console\n\$ omps-worker ([^\n]*)\n(.*?)^```$", section, re.M | re.S):
            found[words] = (line, output)
    return found


def fits(documented: str, real: str) -> bool:
    """Return whether an output matches the documented one.

    Times, addresses, column widths and lines that the page leaves out may differ.
    """
    parts = [re.escape(line) + r"\n" for line in _normal(documented).splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if part == re.escape(LEFT_OUT) + r"\n" else part for part in parts)
    return re.fullmatch(pattern, _normal(real)) is not None


def _normal(text: str) -> str:
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text if text.endswith("\n") else text + "\n"
