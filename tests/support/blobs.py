# SPDX-License-Identifier: GPL-3.0-or-later
"""Small blobs to push, and their digests in a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile


def tar_gz(content: bytes | str) -> bytes:
    """Return a tar.gz with one file. The same content gives the same bytes."""
    data = content.encode() if isinstance(content, str) else content
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        member = tarfile.TarInfo("operator/package.yaml")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def digest_of(blob: bytes) -> str:
    """Return the hex sha256 of the tar inside."""
    return hashlib.sha256(gzip.decompress(blob)).hexdigest()
