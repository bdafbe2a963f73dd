# SPDX-License-Identifier: GPL-3.0-or-later
"""How large archives of manifests may be: limits of this worker, which its configuration can raise.

What exceeds one is refused in a sentence that says whose limit it is and which key raises it: to whoever made the
archive, nothing is wrong with it.
"""

from __future__ import annotations

from typing import Protocol

VALUES = 1_000_000
"""How many YAML values the files of one operator may have together, unless the configuration says otherwise.

The largest operators have 350,000. To read a value takes up to a hundred bytes.
"""

FLAT_SHARE = 4
"""A flat tree may have one in so many of these: it is also dumped, which takes up to half a kilobyte for each."""


class Limits(Protocol):
    """How large an archive may be; see ``settings.Limits``."""

    @property
    def archive_bytes(self) -> int:
        """The zip itself."""

    @property
    def uncompressed_bytes(self) -> int:
        """All its members together, unpacked."""

    @property
    def files(self) -> int:
        """How many files it may have; it may have as many directories on top, named or not."""

    @property
    def values(self) -> int:
        """How many YAML values the files of one operator may have together, aliases followed."""


def whose(key: str) -> str:
    """The end of a sentence about a limit: whose it is, and what raises it."""
    return f"that is this worker's limit, {key} in [consumer_config.limits]"
