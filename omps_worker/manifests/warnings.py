# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings about manifests that operator-courier accepts silently, although they are probably mistakes.

operator-courier ignores directories without a CSV. In a nested tree, it does not check whether the CSV that a channel
points to exists. In both cases, the release lacks something that its users should get.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from omps_worker.manifests.file_tree import FileTree
from omps_worker.manifests.findings import Finding
from omps_worker.manifests.operator_manifests import CSV, PACKAGE, YAML_ENDINGS, OperatorManifests, kind_of

_CSV_TEXT = re.compile(rb"^kind:[ \t]*[\"']?ClusterServiceVersion\b", re.MULTILINE)


def oddities(tree: FileTree, manifests: OperatorManifests) -> Iterator[Finding]:
    """Yield warnings about accepted manifests, which were read from ``tree``."""
    yield from manifests.repeated
    used = {path.partition("/")[0] for path in _csvs(manifests) if "/" in path}
    folders = {path.partition("/")[0] for path in tree.files if "/" in path and path.endswith(YAML_ENDINGS)}
    for folder in sorted(folders - used):
        yield Finding(f"Ignoring folder {folder}: it contains no {CSV}")
    names = {_name(manifests.documents[path]) for path in _csvs(manifests)}
    for path, document in manifests.documents.items():
        if "/" not in path and kind_of(document) == PACKAGE:
            yield from (Finding(text, path) for text in _odd_channels(document.get("channels"), names))
            return


def csvs_too_deep(tree: FileTree) -> list[str]:
    """Return the paths of CSVs that are too deep for operator-courier: in subdirectories of directories.

    Raises OSError if the disk fails.
    """
    deep = (path for path in tree.files if path.count("/") > 1 and path.endswith(YAML_ENDINGS))
    return [path for path in deep if _CSV_TEXT.search(tree.read(path))]


def _odd_channels(channels: object, names: set[object]) -> Iterator[str]:
    for channel in channels if isinstance(channels, list) else ():
        if isinstance(channel, dict):
            current = channel.get("currentCSV")
            if not isinstance(current, str) or current not in names:
                yield f"channel {channel.get('name')}: its currentCSV {current} is in no manifest"


def _csvs(manifests: OperatorManifests) -> Iterator[str]:
    return (path for path, document in manifests.documents.items() if kind_of(document) == CSV)


def _name(document: dict[str, object]) -> object:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None
