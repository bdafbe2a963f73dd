# SPDX-License-Identifier: GPL-3.0-or-later
"""What OLM's bundle extractor takes: it puts each file of a bundle into a config map, as gzip in base64.

A file's key is its name with other characters replaced by dashes. Every file called ``annotations.yaml`` is taken for
that in ``metadata/``, wherever it is.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

BYTES = 2**20
"""How large the data of a config map may be, and an object in it."""

KEY_LENGTH = 253
"""How many characters a key of a config map may have."""

ANNOTATIONS_NAME = "annotations.yaml"

_UNSAFE = re.compile("[^-A-Za-z0-9_.]")
_WRAPPING = 64
"""What gzip and base64 add to a small file at most."""


def safe_name(name: str, taken: set[str]) -> str:
    """Return a name for a file that the extractor takes, and add it to ``taken``; ``name`` itself if it is one."""
    made = _UNSAFE.sub("-", name)[-KEY_LENGTH:]
    if made == name != ANNOTATIONS_NAME:
        return name
    while made in taken or made == ANNOTATIONS_NAME:
        made = f"_{made}"[:KEY_LENGTH]
    taken.add(made)
    return made


def extraction_faults(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield why OLM could not unpack the bundle of ``files``, by their paths in the image or in ``manifests/``."""
    inside = {path.removeprefix("manifests/"): data for path, data in files.items() if not path.startswith("metadata/")}
    keys = Counter(_UNSAFE.sub("-", name) for name in inside)
    for name, content in inside.items():
        key = _UNSAFE.sub("-", name)
        if name == ANNOTATIONS_NAME:
            yield f"manifests/{ANNOTATIONS_NAME} has a name that OLM takes for the annotations of the bundle"
        elif keys[key] > 1:
            yield f"{keys[key]} files have the same name in OLM's config map, {key}"
            keys[key] = 0
        if len(key) > KEY_LENGTH:
            yield f"the name {key[:40]}… has {len(key)} characters, and OLM takes {KEY_LENGTH} at most"
        if len(content) > BYTES:
            yield f"{key[:KEY_LENGTH]} has {len(content)} bytes, and OLM takes files of {BYTES} bytes at most"
    size = sum(len(content) * 4 // 3 + _WRAPPING for content in inside.values())
    # The fast level tells of nearly all large bundles that they are small enough.
    for level in (1, 6):
        if size > BYTES:
            size = sum(_encoded_size(content, level) for content in inside.values())
    if size > BYTES:
        yield f"the bundle has {size} bytes as gzip in base64, and OLM takes {BYTES} bytes at most"


def _encoded_size(content: bytes, level: int) -> int:
    compressor = zlib.compressobj(level, wbits=31)
    size = len(compressor.compress(content)) + len(compressor.flush())
    return (size + 2) // 3 * 4
