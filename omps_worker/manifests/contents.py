# SPDX-License-Identifier: GPL-3.0-or-later
"""What one archive of manifests holds, and the bundles that it makes for those who want it in different ways."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from omps_worker.common.errors import WorkerError
from omps_worker.common.limits import Limits
from omps_worker.common.model import Bundle
from omps_worker.manifests import archive, bundle
from omps_worker.manifests.file_tree import FilesOnDisk, FileTree
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.manifests.transformations import Transformations, apply

_computing = threading.Lock()
"""One thread at a time: it is all computing, which threads do not make faster, and the largest manifests
that are let in take a hundred megabytes or two."""


class ArchiveContents:
    """The files of an archive, unpacked in memory or below ``scratch``, which is the caller's to remove.

    Raises OMPSUploadedFileError if the archive is refused.
    """

    def __init__(self, archive_file: Path, scratch: Path, limits: Limits) -> None:
        self._scratch = scratch
        self._values = limits.values
        self._made: dict[Transformations, Bundle | WorkerError] = {}
        self._tree = archive.unpack(archive_file, scratch / "manifests", limits)

    @property
    def files(self) -> tuple[str, ...]:
        """Their relative paths, sorted."""
        return self._tree.files

    def prepared(self, transformations: Transformations) -> Bundle:
        """The bundle for those who want these transformations; PackageValidationError if there is none."""
        made = self._made.get(transformations)
        if made is None:
            try:
                made = self._prepare(transformations)
            except WorkerError as error:
                made = error.as_value()
            self._made[transformations] = made
        if isinstance(made, WorkerError):
            try:
                raise made
            finally:
                del made
        return made

    def is_bundle_tree(self) -> bool:
        """Whether these are the manifests of an OLM bundle image; see ``bundle.is_bundle_tree``."""
        return bundle.is_bundle_tree(self._tree, self._values)

    def _prepare(self, transformations: Transformations) -> Bundle:
        if not transformations:
            return self._bundle_of(self._tree)
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            tree = FilesOnDisk.copy_of(self._tree, Path(directory, "manifests"))
            with _computing:
                apply(tree, transformations, self._values)
            return self._bundle_of(tree)

    def _bundle_of(self, tree: FileTree) -> Bundle:
        with _computing:
            manifests = OperatorManifests.read(tree, self._values)
            return bundle.prepare(tree, manifests, manifests.package_name)
