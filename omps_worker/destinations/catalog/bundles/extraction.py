# SPDX-License-Identifier: GPL-3.0-or-later
"""What OLM's bundle extractor takes: it puts each file of a bundle into a config map, as gzip in base64.

A file's key is its name with other characters replaced by dashes. Every file called ``annotations.yaml`` is taken for
that in ``metadata/``, wherever it is.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from omps_worker.destinations.catalog.bundles.file_names import FileNames

BYTES = 2**20
"""How large the data of a config map may be, and an object in it."""

KEY_LENGTH = 253
"""How many characters a key of a config map may have."""

ANNOTATIONS_NAME = "annotations.yaml"

_UNSAFE = re.compile("[^-A-Za-z0-9_.]")
_WRAPPING = 64
"""What gzip and base64 add to a small file at most."""


class SafeNames:
    """Names that the extractor takes, for the files ``names`` of one directory and for parts of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = FileNames(names, KEY_LENGTH)

    def of_file(self, name: str) -> str:
        """Return the name for a whole file: ``name`` itself if the extractor takes it."""
        if name == ANNOTATIONS_NAME:
            return self._names.numbered(name)
        made = _UNSAFE.sub("-", name)
        return name if made == name and len(name) <= KEY_LENGTH else self._names.free(made)

    def of_part(self, name: str) -> str:
        """Return a name for the next part of a file."""
        return self._names.numbered(_UNSAFE.sub("-", name))


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
