# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a message, as operations.md draws it, has every end that it can have."""

from __future__ import annotations

import re

import pytest

from omps_worker.common.model import Status
from omps_worker.configuration.settings.broker import contract_arguments
from tests.support.sources import ROOT

TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
LIFE = TEXT.split("## The life of a message\n")[1].split("\n## ")[0]
_, PICTURE, WORDS = LIFE.split("```")
ENDS = ["ignored", *sorted({status.value for status in Status} - {Status.DELETED.value})]


@pytest.mark.parametrize("end", ENDS)
def test_every_end_is_in_the_picture_and_in_the_table(end):
    assert re.search(rf"\b{end}\b", PICTURE)
    assert re.search(rf"^\| ([\w, ]+, )?{end}\b", WORDS, re.MULTILINE)


@pytest.mark.parametrize("queue", ["<queue> ", "<queue>.retry.<delay>", "<queue>.failed"])
def test_every_queue_is_in_the_picture(queue):
    assert queue in PICTURE


def test_what_the_broker_parks_by_itself_is_told():
    limit = contract_arguments("queue")["x-delivery-limit"]
    assert f"after {limit} deliveries" in WORDS
