# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong at the image registry during a storm."""

from __future__ import annotations

import random
import re
from collections import Counter

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from omps_worker.sandbox.site import CATALOG_PATH, CATALOG_TAG

_TAG = f"/v2/{re.escape(CATALOG_PATH)}/manifests/{CATALOG_TAG}$"
_BLOBS = "/v2/community/.*/blobs/"
_MISSING = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": CATALOG_TAG}}]}

KINDS: dict[str, Fault | None] = {
    "tag lost": Fault(f"PUT {_TAG}", drop_answer=True),
    "tag refused": Fault(f"PUT {_TAG}", status=500),
    "tag unreadable": Fault(f"(GET|HEAD) {_TAG}", status=500),
    "tag hidden": Fault(f"(GET|HEAD) {_TAG}", status=404, body=_MISSING),
    "garbage": Fault(f"GET {_TAG}", status=200, body="<html>garbage</html>"),
    "blob lost": Fault(f"PUT {_BLOBS}", drop_answer=True),
    "blob refused": Fault(f"(POST|PUT|HEAD|GET) {_BLOBS}", status=503),
    "foreign writer": None,
}
"""The kinds of faults by name. A foreign writer comes between a worker's last look at the tag and its write."""

SLOW_SECONDS = 0.01
"""How long the writing of a tag takes. The registry answers 500 to who reads the tag meanwhile."""


class ImageFaults:
    """Faults that come to pass at random, of which each is counted."""

    def __init__(self, images: SandboxImageRegistry, chaos: random.Random) -> None:
        self._images = images
        self._chaos = chaos
        self._planned: list[tuple[str, Fault]] = []
        self._foreign_writes = 0

    def plan(self, faults: int, updates: int) -> None:
        """Spread faults over about as many updates of the catalog as there will be."""
        self._images.slow_tags = SLOW_SECONDS
        kinds = list(KINDS)
        self._chaos.shuffle(kinds)
        for number in range(faults):
            kind = kinds[number % len(kinds)]
            after, fault = self._chaos.randrange(max(updates, 1)), KINDS[kind]
            if fault is None:
                self._images.before(f"HEAD {_TAG}", self._write_as_a_stranger, after=after)
            else:
                fresh = Fault(fault.match, fault.status, fault.body, drop_answer=fault.drop_answer, after=after)
                self._planned.append((kind, self._images.faults.add(fresh)))

    def end(self) -> Counter[str]:
        """Let the registry be well again, and return how many faults of each kind came to pass."""
        came = Counter(dict.fromkeys(KINDS, 0))
        for kind, fault in self._planned:
            came[kind] += self._images.faults.fired(fault)
        came["foreign writer"] = self._foreign_writes
        self._images.faults.clear()
        self._images.slow_tags = 0.0
        return came

    def _write_as_a_stranger(self) -> None:
        if self._images.rewrite(CATALOG_PATH, CATALOG_TAG):
            self._foreign_writes += 1
