# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a bundle of manifests: operator-courier's verdict and content, the same bytes every time.

A nested tree is packed as it is, less the files that operator-courier leaves out; of a flat
tree only its ``bundle.yaml`` is. The registry knows a release by the sha256 of the tar inside the
tar.gz. operator-courier packs a randomly named directory with current times, so nobody could
tell whether a content is released already. Here the directory is named after the repository,
names are sorted, and times, owners and modes are fixed.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, cast

from omps_worker import courier
from omps_worker.errors import PackageValidationError
from omps_worker.limits import VALUES
from omps_worker.manifests import CSV, PACKAGE, Manifests, kind_of, new_reader, read_documents
from omps_worker.model import Bundle

_GZIP = 16 + zlib.MAX_WBITS
_FLAT_FILE = "bundle.yaml"


def prepare(directory: Path, files: tuple[str, ...], manifests: Manifests, repository: str) -> Bundle:
    """Let operator-courier verify ``manifests`` for ``repository`` and pack them.

    ``files`` are the relative paths of all files in ``directory``, which ``manifests`` was read
    from. Safe to call from several threads; operator-courier runs in one of them at a time.

    Raises PackageValidationError with operator-courier's whole verdict in
    ``details["validation_info"]``; trying again does not help.
    """
    verdict = courier.verify(manifests.documents, repository)
    packed = _Packed()
    with tarfile.open(fileobj=cast("IO[bytes]", packed), mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(repository, tarfile.DIRTYPE, 0o755, 0))
        if verdict.bundle is None:
            _add_tree(tar, repository, directory, files)
        else:
            _add_bundle(tar, repository, verdict.bundle)
    blob, digest = packed.finish()
    return Bundle(
        package_name=manifests.package_name,
        blob=blob,
        digest=digest,
        files=files,
        nested=verdict.nested,
        csv_version=manifests.default_csv_version,
        warnings=verdict.warnings,
    )


def is_bundle_tree(directory: Path, values: int = VALUES) -> bool:
    """Whether these are the manifests of an OLM bundle image: CSVs, but no package file.

    ``values``: how many YAML values they may have. False if they cannot be read: then that is what is wrong with them.
    """
    try:
        kinds = {kind_of(document) for document in read_documents(new_reader(values), directory).values()}
    except PackageValidationError:
        return False
    return CSV in kinds and PACKAGE not in kinds


class _Packed:
    """A file that gzips what is written to it, and knows the digest of what was written."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=_GZIP)
        self._parts: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._parts.append(self._compressor.compress(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def finish(self) -> tuple[bytes, str]:
        """The tar.gz and the hex sha256 of the tar."""
        self._parts.append(self._compressor.flush())
        return b"".join(self._parts), self._digest.hexdigest()


def _add_tree(tar: tarfile.TarFile, repository: str, directory: Path, files: Iterable[str]) -> None:
    left_out = courier.left_out()
    packed = [path for path in files if PurePosixPath(path).name not in left_out]
    parents = {parent for path in packed for parent in _parents(path)}
    for path in sorted([*packed, *parents]):
        if path in parents:
            tar.addfile(_member(f"{repository}/{path}", tarfile.DIRTYPE, 0o755, 0))
        else:
            with (directory / path).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                tar.addfile(_member(f"{repository}/{path}", tarfile.REGTYPE, 0o644, size), file)


def _add_bundle(tar: tarfile.TarFile, repository: str, text: str) -> None:
    data = text.encode()
    tar.addfile(_member(f"{repository}/{_FLAT_FILE}", tarfile.REGTYPE, 0o644, len(data)), BytesIO(data))


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _member(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    """A member without anything that would tell one machine or run from another."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, size
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
