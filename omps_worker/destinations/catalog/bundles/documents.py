# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with several documents, split so that changes to manifests, which read one document a file, see all of them."""

from __future__ import annotations

from omps_worker.destinations.catalog.bundles.directories import FILE_DOCUMENTS
from omps_worker.destinations.catalog.bundles.render import ENDINGS
from omps_worker.destinations.catalog.grammars.go_yaml import documents, has_content
from omps_worker.manifests.file_tree import FilesOnDisk


def split_documents(tree: FilesOnDisk) -> FilesOnDisk:
    """Return ``tree`` with a file for each document of those files that have several.

    The names are those that bundles give to the parts of such a file: ``crds.yaml`` becomes ``crds.1.yaml`` and so on.
    Files that cannot be split are left as they are: whatever reads them next says why. Raises OSError if the disk
    fails.
    """
    files = set(tree.files)
    for path in tree.files:
        pieces = _pieces(tree.read(path)) if path.endswith(ENDINGS) else []
        if len(pieces) < 2:
            continue
        stem, dot, ending = path.rpartition(".")
        files.remove(path)
        (tree.directory / path).unlink()
        for number, piece in enumerate(pieces, 1):
            made = f"{stem}.{number}{dot}{ending}"
            while made in files:
                directory, slash, name = made.rpartition("/")
                made = f"{directory}{slash}_{name}"
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
