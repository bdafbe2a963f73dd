# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the bill of materials of the package and its run-time dependencies: ``python -m scripts.sbom [FILE]``.

The format is CycloneDX 1.5 as JSON, for the distributions that are installed in the Python that runs the script. The
same distributions give the same bytes. The timestamp is that of the environment variable ``SOURCE_DATE_EPOCH`` (seconds
since 1970); without it, there is none.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.distributions import ITSELF, Distribution, needed
from scripts.licences import licence_of

ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
"""CycloneDX's names of the hash algorithms."""


def document(distributions: Mapping[str, Distribution], root: str = ITSELF, epoch: int | None = None) -> dict[str, Any]:
    """Return the bill of materials. ``epoch`` is its timestamp, in seconds since 1970."""
    others = [_component(one, "library") for name, one in sorted(distributions.items()) if name != root]
    about: dict[str, Any] = {"component": _component(distributions[root], "application")}
    if epoch is not None:
        about["timestamp"] = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": about,
        "components": others,
        "dependencies": [_dependencies(one, distributions) for _, one in sorted(distributions.items())],
    }
    # Derived from the content, so that bills with the same serial number are the same.
    return {**bill, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bill, sort_keys=True))}"}


def purl(distribution: Distribution) -> str:
    """Return the package URL, which the bill also uses to refer to the component."""
    return f"pkg:pypi/{quote(distribution.name)}@{quote(distribution.version)}"


def _component(distribution: Distribution, kind: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": purl(distribution),
        "name": distribution.name,
        "version": distribution.version,
        "purl": purl(distribution),
    }
    if distribution.summary:
        component["description"] = distribution.summary
    expression = licence_of(distribution)
    if expression:
        component["licenses"] = [{"expression": expression}]
    hashes = [
        {"alg": ALGORITHMS[name], "content": digest} for name, digest in distribution.hashes if name in ALGORITHMS
    ]
    if hashes:
        component["hashes"] = hashes
    return component


def _dependencies(distribution: Distribution, distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    names = {canonicalize_name(Requirement(text).name) for text in distribution.requires}
    # The names may include requirements of extras or other Pythons. Those that are not in the bill are left out.
    wanted = sorted(purl(distributions[name]) for name in names & set(distributions) - {distribution.name})
    return {"ref": purl(distribution), "dependsOn": wanted}


def main(arguments: list[str]) -> int:
    """Write the bill to the file in ``arguments``, or to standard output."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    text = json.dumps(document(needed(), epoch=int(epoch) if epoch else None), indent=2, sort_keys=True) + "\n"
    if arguments:
        Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments[0]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
