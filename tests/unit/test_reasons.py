# SPDX-License-Identifier: GPL-3.0-or-later
"""The reasons of results and metrics, as people read them."""

from __future__ import annotations

import re

import pytest

from omps_worker.destinations import BUNDLE_BUILD, NOT_AN_OPERATOR_IMAGE
from omps_worker.messages import events
from omps_worker.messages.reasons import WORDS, in_words
from omps_worker.publishing import claims, holds, processor, superseded, targets

REASONS = {
    *events.REASONS,
    processor.NOT_COMPLETE,
    processor.DRAFT_BUILD,
    claims.NO_LONGER_COMPLETE,
    targets.NO_RULE,
    targets.IGNORED_BY_RULE,
    holds.HELD,
    superseded.SUPERSEDED,
    BUNDLE_BUILD,
    NOT_AN_OPERATOR_IMAGE,
}


def test_every_reason_that_is_no_word_has_words_and_there_are_no_others() -> None:
    assert {reason for reason in REASONS if "_" in reason} == set(WORDS)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_no_token_reaches_people(reason: str) -> None:
    for told in (reason, f"{reason}: etcd-1-1", f"{reason}: etcd-1-1 is a draft"):
        assert re.search(r"[a-z]_[a-z]", in_words(told)) is None


def test_a_detail_that_is_a_sentence_says_it_all_and_another_one_is_kept() -> None:
    assert in_words("no_rule: no rule of the mapping matches etcd-1-1") == "no rule of the mapping matches etcd-1-1"
    assert in_words("not_a_build_message: org.example.tag") == "the message is not about a build (org.example.tag)"
    assert in_words("QuayCourierError: Failed to push.") == "QuayCourierError: Failed to push."
