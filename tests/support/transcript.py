# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the recording of Quay's app registry in tests/data/registry/transcript_quay.txt.

An exchange has the form ``### title``, ``> METHOD target``, ``>   Authorization: …``, ``>   body …`` (a Python
literal), ``< STATUS REASON | content type``, ``<   body``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUAY = Path(__file__).parents[1] / "data" / "registry" / "transcript_quay.txt"


@dataclass(frozen=True)
class Exchange:
    """One request and its response. ``sent`` and ``received`` are None if there was no body."""

    title: str
    method: str
    target: str
    authorization: str
    sent: Any
    status: int
    content_type: str
    received: Any
    """The parsed JSON, or a text like ``body 290 bytes b'…`` if it was not JSON."""

    def __str__(self) -> str:
        return f"{self.title}: {self.method} {self.target} as {self.authorization}"


def exchanges(path: Path = QUAY) -> Iterator[Exchange]:
    """Yield all exchanges in the order in which they were recorded."""
    title = ""
    for block in path.read_text().split("\n\n"):
        lines = block.splitlines()
        title = next((line[4:] for line in lines if line.startswith("### ")), title)
        asked = [line[2:] for line in lines if line.startswith("> ")]
        told = [line[2:] for line in lines if line.startswith("< ") and not re.fullmatch(r"<   \d+ ms", line)]
        if not asked or not told:
            continue
        method, target = asked[0].split()
        fields = dict(line.strip().split(" ", 1) for line in asked[1:])
        answer = re.match(r"(\d+) [^|]*\| ([^|]+?) *(\||$)", told[0])
        assert answer, told[0]
        yield Exchange(
            title,
            method,
            target,
            fields["Authorization:"],
            _literal(fields["body"]) if "body" in fields else None,
            int(answer[1]),
            answer[2],
            _body(told[1].strip()) if len(told) > 1 else None,
        )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _body(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
