# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with several documents, split so that changes to manifests, which read one document a file, see all of them."""

from __future__ import annotations

from collections import defaultdict

from omps_worker.destinations.catalog.bundles.directories import FILE_DOCUMENTS, too_many_documents
from omps_worker.destinations.catalog.bundles.file_names import FileNames
from omps_worker.destinations.catalog.bundles.render import ENDINGS
from omps_worker.destinations.catalog.grammars.go_yaml import documents, has_content
from omps_worker.manifests.archive import COMPONENT_BYTES
from omps_worker.manifests.file_tree import FilesOnDisk


def split_documents(tree: FilesOnDisk, most: int) -> FilesOnDisk:
    """Return ``tree`` with a file for each document of those files that have several.

    ``crds.yaml`` becomes ``crds.1.yaml`` and so on. Files that cannot be split are left as they are: whatever reads
    them next says why. Raises PackageValidationError if there would be more than ``most`` files; trying again does not
    help. Raises OSError if the disk fails.
    """
    files = set(tree.files)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for path in tree.files:
        directory, _, name = path.rpartition("/")
        names[directory].add(name)
    free = {directory: FileNames(taken, COMPONENT_BYTES) for directory, taken in names.items()}
    for path in tree.files:
        pieces = _pieces(tree.read(path)) if path.endswith(ENDINGS) else []
        if len(pieces) < 2:
            continue
        if len(files) + len(pieces) - 1 > most:
            raise too_many_documents(most)
        files.remove(path)
        (tree.directory / path).unlink()
        directory, slash, name = path.rpartition("/")
        for piece in pieces:
            made = f"{directory}{slash}{free[directory].numbered(name)}"
            files.add(made)
            tree.write(made, piece.encode())
    return FilesOnDisk(tree.directory, files)


def _pieces(content: bytes) -> list[str]:
    """Return the documents of a file that are more than comments; none if they cannot be told apart."""
    if b"---" not in content:
        return []
    try:
        found = documents(content.decode())
    except ValueError:
        return []
    return [piece for piece in found if has_content(piece)] if len(found) <= FILE_DOCUMENTS else []
