# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of one archive of manifests, and the bundles that are made of it, one per set of transformations."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omps_worker.common.errors import WorkerError
from omps_worker.common.limits import Limits
from omps_worker.common.model import Bundle
from omps_worker.manifests import archive, bundle
from omps_worker.manifests.file_tree import FilesOnDisk, FileTree
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.manifests.transformations import Transformations, apply

computing = threading.Lock()
"""Held while manifests are processed, so that one thread at a time does it: this is pure computation, which threads
do not speed up, and the largest accepted manifests take one or two hundred megabytes."""


class ArchiveContents:
    """The files of an archive, unpacked in memory or below ``scratch``. The caller removes ``scratch``.

    Raises OMPSUploadedFileError if the archive is refused; trying again does not help.
    """

    def __init__(self, archive_file: Path, scratch: Path, limits: Limits) -> None:
        self._scratch = scratch
        self._values = limits.values
        self._files = limits.files
        self._results: dict[Transformations, Bundle | WorkerError] = {}
        self._tree = archive.unpack(archive_file, scratch / "manifests", limits)

    @property
    def files(self) -> tuple[str, ...]:
        """The relative paths of the files, sorted."""
        return self._tree.files

    @property
    def max_values(self) -> int:
        """The maximum number of YAML values in all files."""
        return self._values

    @property
    def max_files(self) -> int:
        """The maximum number of files, also after files were split."""
        return self._files

    @contextmanager
    def transformed(
        self, transformations: Transformations, first: Callable[[FilesOnDisk], FilesOnDisk] | None = None
    ) -> Iterator[FileTree]:
        """Yield the files with these transformations. They are readable during the ``with`` block only.

        ``first`` is called with a copy of the files before they are transformed, and returns what it made of them; it
        is not called if there is nothing to transform. Raises what ``transformations.apply`` raises.
        """
        if not transformations:
            yield self._tree
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            tree = FilesOnDisk.copy_of(self._tree, Path(directory, "manifests"))
            with computing:
                if first is not None:
                    tree = first(tree)
                apply(tree, transformations, self._values)
            yield tree

    def prepared(self, transformations: Transformations) -> Bundle:
        """Return the bundle with these transformations, which is made once.

        Raises PackageValidationError if the manifests are refused, and what ``transformations.apply`` raises. Another
        call raises the same error.
        """
        result = self._results.get(transformations)
        if result is None:
            try:
                result = self._prepare(transformations)
            except WorkerError as error:
                result = error.as_value()
            self._results[transformations] = result
        if isinstance(result, WorkerError):
            try:
                raise result
            finally:
                del result
        return result

    def is_bundle_tree(self) -> bool:
        """Return whether these are the manifests of an OLM bundle image; see ``bundle.is_bundle_tree``."""
        return bundle.is_bundle_tree(self._tree, self._values)

    def _prepare(self, transformations: Transformations) -> Bundle:
        with self.transformed(transformations) as tree:
            return self._bundle_of(tree)

    def _bundle_of(self, tree: FileTree) -> Bundle:
        with computing:
            manifests = OperatorManifests.read(tree, self._values)
            return bundle.prepare(tree, manifests, manifests.package_name)
