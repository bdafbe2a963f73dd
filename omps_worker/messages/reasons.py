# SPDX-License-Identifier: GPL-3.0-or-later
"""The reasons for which builds are ignored or skipped, in words for people. In results and metrics they are tokens."""

from __future__ import annotations

from collections.abc import Mapping

from omps_worker.common.text import shell_word

WORDS: Mapping[str, str] = {
    "no_rule": "no rule of the mapping matches",
    "ignored_by_rule": "a rule of the mapping ignores it on purpose",
    "not_complete": "the build is not complete",
    "no_longer_complete": "the build is no longer complete",
    "draft_build": "the build is a draft",
    "not_a_build_message": "the message is not about a build",
    "not_a_state_change": "the message is not about a new state of a build",
    "other_instance": "the message is from another Koji",
}
"""What the tokens among the reasons mean; all other reasons are words already."""


UNREACHED = "superseded"
"""The reason of a bundle build that no channel would reach, although no newer build supersedes it."""

NOT_REACHED = "no channel of the package would reach it; `graph: semver` in the mapping adds bundles of all versions"
"""What that means, and what helps."""


def in_words(reason: str) -> str:
    """Return a reason, which may have a detail after a colon, without its token: the detail if it is a sentence."""
    token, _, detail = reason.partition(": ")
    words = WORDS.get(token)
    if words is None:
        return reason
    if " " in detail:
        return detail
    return f"{words} ({detail})" if detail else words


def how_to_publish(nvr: str | None) -> str:
    """Return how to publish a build that the mapping holds, as a part of a sentence."""
    return f"`omps-worker push {shell_word(nvr or 'NVR')} --held` publishes it"
