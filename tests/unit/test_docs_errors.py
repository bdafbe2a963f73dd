# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/errors.md, held against the tree of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from omps_worker import errors
from omps_worker.broker.parked_message import DEAD_LETTERED
from tests.support.sources import ROOT

ROWS = re.findall(
    r"^\| `(\w+)` \| (yes|no|either) \| (.+?) \| (.+?) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE
)


def leaves(kind: type[errors.WorkerError] = errors.WorkerError) -> Iterator[type[errors.WorkerError]]:
    """The errors that are raised: SettingsError too, though MappingError is one."""
    below = kind.__subclasses__()
    if not below or kind is errors.SettingsError:
        yield kind
    for each in below:
        yield from leaves(each)


def test_every_error_has_its_row_and_there_is_no_other():
    assert sorted(name for name, *_ in ROWS) == sorted([DEAD_LETTERED, *(kind.__name__ for kind in leaves())])


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_whether_it_passes_by_itself_is_what_the_code_says(kind):
    (told,) = (transient for name, transient, *_ in ROWS if name == kind.__name__)
    assert told in ({"yes", "either"} if kind.transient else {"no", "either"})
