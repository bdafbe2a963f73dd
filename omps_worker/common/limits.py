# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits for archives of manifests, which the configuration can raise.

The error about an exceeded limit says that it is this worker's limit and names its key, because nothing is wrong with
the archive itself.
"""

from __future__ import annotations

from typing import Protocol

VALUES = 1_000_000
"""The default maximum of YAML values in all files of one operator.

The largest operators have 350,000 values. Reading a value takes up to a hundred bytes.
"""

FILES = 2000
"""The default maximum of files in an archive, and of files that are made of them."""

FLAT_SHARE = 4
"""The divisor of the limit for a flat tree: it may have a quarter of the values.

A flat tree is also dumped, which takes up to half a kilobyte for each value.
"""


class Limits(Protocol):
    """The limits for an archive; see ``configuration.settings.models.Limits``."""

    @property
    def archive_bytes(self) -> int:
        """The maximum size of the zip in bytes."""

    @property
    def uncompressed_bytes(self) -> int:
        """The maximum size of all members together in bytes, unpacked."""

    @property
    def files(self) -> int:
        """The maximum number of files, also after files with several documents were split.

        As many directories are allowed in addition, named or not.
        """

    @property
    def values(self) -> int:
        """The maximum number of YAML values in all files of one operator, with aliases followed."""


def limit_advice(key: str) -> str:
    """Return the end of a sentence about a limit: that it is this worker's limit, and which key raises it."""
    return f"that is this worker's limit, {key} in [consumer_config.limits]"
