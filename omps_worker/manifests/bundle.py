# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack manifests into a bundle, with operator-courier's verdict and content, and the same bytes every time.

A nested tree is packed unchanged, without the files that operator-courier leaves out. Of a flat tree, only its
``bundle.yaml`` is packed. The registry identifies a release by the sha256 of the tar inside the tar.gz.
operator-courier packs a randomly named directory with current times, so its digest does not tell whether a content is
already released. Here the directory is named after the repository, names are sorted, and times, owners and modes are
fixed.
"""

from __future__ import annotations

import functools
import hashlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import VALUES
from omps_worker.common.model import Bundle
from omps_worker.manifests import courier
from omps_worker.manifests.file_tree import FileTree
from omps_worker.manifests.findings import sentences
from omps_worker.manifests.operator_manifests import (
    CSV,
    PACKAGE,
    OperatorManifests,
    kind_of,
    new_reader,
    read_documents,
)
from omps_worker.manifests.warnings import csvs_too_deep, oddities

_GZIP = 16 + zlib.MAX_WBITS
_FLAT_FILE = "bundle.yaml"
_CHECKSUM_AS_SPACES = 7 * ord(" ")
"""The checksum is computed with eight spaces in its place, of which the template already contains one."""

_LARGE = 8**11
"""The smallest size in bytes that does not fit into a header."""


def prepare(tree: FileTree, manifests: OperatorManifests, repository: str) -> Bundle:
    """Let operator-courier verify ``manifests`` for ``repository``, and pack them.

    ``tree`` is the tree that ``manifests`` was read from. Safe to call from several threads; operator-courier runs in
    one of them at a time.

    Raises PackageValidationError, with operator-courier's whole verdict in ``details["validation_info"]``, if the
    manifests are refused; trying again does not help. Raises OSError if the disk fails.
    """
    verdict = courier.verify(manifests.documents, repository, partial(csvs_too_deep, tree))
    packed = _Packed()
    packed.add_directory(repository)
    if verdict.bundle is None:
        _add_tree(packed, repository, tree)
    else:
        text = verdict.bundle.encode()
        packed.add_file(f"{repository}/{_FLAT_FILE}", len(text), [text])
    blob, digest = packed.finish()
    return Bundle(
        package_name=manifests.package_name,
        blob=blob,
        digest=digest,
        files=tree.files,
        nested=verdict.nested,
        csv_version=manifests.default_csv_version,
        courier_warnings=verdict.warnings,
        warnings=sentences([*oddities(tree, manifests), *verdict.findings]),
    )


def is_bundle_tree(tree: FileTree, values: int = VALUES) -> bool:
    """Return whether these are the manifests of an OLM bundle image: CSVs, but no package file.

    ``values`` is the most YAML values that they may have. Returns False if they cannot be read; reading them as a
    package then reports that error.
    """
    try:
        kinds = {kind_of(document) for document in read_documents(new_reader(values), tree).values()}
    except PackageValidationError:
        return False
    return CSV in kinds and PACKAGE not in kinds


class _Packed:
    """A tar.gz in memory, and the digest of its tar. The tar is the one that ``tarfile`` writes, in less time."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=_GZIP)
        self._parts: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0

    def add_directory(self, name: str) -> None:
        self._write(_header(name, tarfile.DIRTYPE, 0))

    def add_file(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        self._write(_header(name, tarfile.REGTYPE, size))
        for piece in pieces:
            self._write(piece)
        self._write(bytes(-size % tarfile.BLOCKSIZE))

    def finish(self) -> tuple[bytes, str]:
        """Return the tar.gz, and the hex sha256 of the tar."""
        end = self._size + 2 * tarfile.BLOCKSIZE
        self._write(bytes(end - self._size + -end % tarfile.RECORDSIZE))
        self._parts.append(self._compressor.flush())
        return b"".join(self._parts), self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._parts.append(self._compressor.compress(data))
        self._size += len(data)


def _add_tree(packed: _Packed, repository: str, tree: FileTree) -> None:
    left_out = courier.left_out()
    inside = [path for path in tree.files if path.rpartition("/")[2] not in left_out]
    parents = {parent for path in inside for parent in _parents(path)}
    for path in sorted([*inside, *parents]):
        if path in parents:
            packed.add_directory(f"{repository}/{path}")
        else:
            size, pieces = tree.pieces(path)
            packed.add_file(f"{repository}/{path}", size, pieces)


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _header(name: str, kind: bytes, size: int) -> bytes:
    """Return the header of a member, without anything that depends on the machine or the run."""
    if kind == tarfile.DIRTYPE:
        name += "/"
    if len(name) > tarfile.LENGTH_NAME or not name.isascii() or size >= _LARGE:
        # Such a header needs more than one block, or a name in two parts.
        return _tarfile_header(name, kind, size)
    block = bytearray(_template(kind))
    block[: len(name)] = name.encode("ascii")
    block[124:135] = b"%011o" % size
    block[148:155] = b"%06o\0" % (sum(block) + _CHECKSUM_AS_SPACES)
    return bytes(block)


@functools.cache
def _template(kind: bytes) -> bytes:
    """Return a header without name and size, and with a checksum of zeros."""
    block = bytearray(_tarfile_header("", kind, 0))
    block[148:155] = bytes(7)
    return bytes(block)


def _tarfile_header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
