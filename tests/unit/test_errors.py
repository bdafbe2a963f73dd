# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of errors."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common import errors
from omps_worker.common.error_details import DETAILS_LIMIT, limited
from omps_worker.common.errors import Fault, SettingsError, UnexpectedError, WorkerError


def every_error(kind=WorkerError):
    yield kind
    for child in kind.__subclasses__():
        yield from every_error(child)


def test_the_picture_at_the_top_of_the_module_shows_the_whole_tree():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__)) | {"WorkerError"}
    assert drawn == {kind.__name__ for kind in every_error()}


def test_only_what_time_can_mend_is_transient():
    assert {kind.__name__ for kind in every_error() if kind.transient} == {
        "KojiError",
        "OrganizationPaused",
        "GreenwaveError",
        "QuayAuthorizationError",
        "CatalogAuthorizationError",
        "CatalogConflict",
        "BrokerBlocked",
        "BrokerUnavailable",
        "PackageBusy",
        "ServiceBusy",
        "StorageError",
        "ResourcesExhausted",
    }


def test_only_work_that_never_began_is_no_attempt():
    assert {kind.__name__ for kind in every_error() if not kind.counts} == {"PackageBusy", "OrganizationPaused"}


def test_one_error_may_know_better_than_its_kind():
    error = errors.QuayCourierError("The registry answered 503.", transient=True, retry_after=12)
    assert error.transient
    assert error.retry_after == 12
    assert error.name == "QuayCourierError"


def test_settings_errors_name_every_fault():
    error = SettingsError([Fault("config.toml", "a.b", "is missing"), Fault("mapping.yaml", "", "is empty")])
    assert str(error) == "config.toml: a.b: is missing\nmapping.yaml: is empty"


def faulty(kind, message):
    """An error of the kind, by whatever it is made of."""
    return kind([Fault("f", "k", message)]) if issubclass(kind, SettingsError) else kind(message)


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("joined", "said"),
    [
        ("It failed: the peer said no..", "It failed: the peer said no."),
        ("The peer said no.. Try again..", "The peer said no. Try again."),
        ("What is that?. And that!.", "What is that? And that!"),
        ("It was cut off….", "It was cut off…"),
    ],
)
def test_a_sentence_that_quotes_another_ends_once(kind, joined, said):
    error = faulty(kind, joined)
    assert error.message.endswith(said)
    assert str(error).endswith(said)


@pytest.mark.parametrize(
    "text", ["No...", "'..' is no name.", "The link ../x leads out.", "Go to .. and back.", "a..b is one."]
)
def test_full_stops_that_end_no_sentence_stay(text):
    assert WorkerError(text).message == text


def test_an_unexpected_exception_shows_its_type_and_nothing_of_its_text():
    error = UnexpectedError.wrap(ValueError("token=hush"))
    assert "ValueError" in error.message
    assert "hush" not in repr(error)


def test_a_message_from_outside_cannot_be_endless():
    assert len(WorkerError("x" * 10**6).message) == errors.MESSAGE_LIMIT


@pytest.mark.parametrize(
    "details",
    [
        {"errors": ["x" * 50_000] * 50},
        {"errors": ["y"] * 100_000},
        {str(number): "z" * 100 for number in range(5_000)},
        {"deep": [[["w" * 70_000]]]},
        {"é" * 70_000: 1},
    ],
)
def test_details_are_cut_to_their_limit_and_say_so(details):
    cut = limited(details)
    assert len(json.dumps(cut)) <= DETAILS_LIMIT
    assert cut["truncated"] is True


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5)))
def test_small_details_stay_as_they_are(details):
    assert limited(details) == details
