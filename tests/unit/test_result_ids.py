# SPDX-License-Identifier: GPL-3.0-or-later
"""One fact keeps its id, and two facts never share one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import BasicProperties

from omps_worker.broker.copies import parked_copy, waiting_copy
from omps_worker.broker.dead_letters.replay import replayed_copy
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.common.errors import (
    KojiError,
    OMPSUploadedFileError,
    PackageBusy,
    PackageValidationError,
    QuayAuthorizationError,
    QuayCourierError,
)
from omps_worker.common.model import Attempt, ManualRequest, Outcome, Source, Status, UploadedArchive
from omps_worker.messages.reporting import Reporter
from omps_worker.messages.result_ids import result_id
from tests.unit.test_broker_parking import NOW

REGISTRY = "https://quay.example.com"
FIRST_ATTEMPT = Attempt()
SOURCE = Source("0fad8d25", "org.example.buildsys.build.state.change")
PUBLISHED = Outcome(
    Status.PUBLISHED, "community", "etcd", "1.0.0", "etcd-operator-container-0.9.2-1", digest="ab" * 32,
    released_at="2026-11-21T01:58:28",
)  # fmt: skip
FAILED = replace(PUBLISHED, status=Status.FAILED, version=None, error=PackageValidationError("bad"), released_at=None)


def id_of(
    outcome: Outcome, origin: Source | ManualRequest = SOURCE, attempt: Attempt = FIRST_ATTEMPT, registry=REGISTRY
) -> str:
    return result_id(registry, outcome, origin, attempt)


def delivered(properties: BasicProperties, *, redelivered: bool = False) -> Delivery:
    return Delivery(DeliveryTag(1, 1), "", "omps-worker", redelivered, properties, b"{}", None, received_at=NOW)


FIRST = delivered(BasicProperties(message_id="0fad8d25"))


def failure_of(delivery: Delivery, error: Exception = PackageValidationError("bad")) -> str:  # noqa: B008
    return id_of(replace(FAILED, error=error), delivery.source, delivery.attempt)


# The same fact.


def test_a_release_is_one_fact_whoever_finds_out_about_it():
    assert id_of(PUBLISHED) == id_of(PUBLISHED, ManualRequest(), Attempt(7, interrupted=True))
    assert id_of(PUBLISHED) == id_of(PUBLISHED, Source("another", "t", replayed=3))


@pytest.mark.parametrize("status", [Status.UNCHANGED, Status.SKIPPED, Status.FAILED, Status.RETRYING])
def test_what_is_told_again_after_its_worker_died_is_the_same_fact(status):
    again = delivered(BasicProperties(message_id="0fad8d25", headers={"x-delivery-count": 1}), redelivered=True)
    outcome = replace(FAILED, status=status)
    assert id_of(outcome, FIRST.source, FIRST.attempt) == id_of(outcome, again.source, again.attempt)


def test_what_an_error_says_beside_its_name_makes_no_other_fact():
    later = replace(FAILED, error=PackageValidationError("bad, at 12:30"))
    assert id_of(FAILED) == id_of(later)


def test_one_run_tells_one_fact_however_often_it_has_to():
    run = ManualRequest()
    assert id_of(FAILED, run) == id_of(FAILED, run)


# Another fact.


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(
    "change",
    [{"version": "4.0.0"}, {"digest": "cd" * 32}, {"organization": "other"}, {"repo": "x"}, {"nvr": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_another_place_version_content_or_build_makes_another_fact(status, change):
    outcome = replace(FAILED, status=status)
    assert id_of(outcome) != id_of(replace(outcome, **change))


def test_every_status_and_every_registry_makes_another_fact():
    assert len({id_of(replace(PUBLISHED, status=status)) for status in Status}) == len(Status)
    assert id_of(PUBLISHED) != id_of(PUBLISHED, registry="https://elsewhere")


def test_a_release_that_was_deleted_and_is_published_again_is_another_fact():
    assert id_of(PUBLISHED) != id_of(replace(PUBLISHED, released_at="2026-11-21T02:00:00"))


def test_three_broken_uploads_with_three_errors_are_three_facts():
    broken = Outcome(Status.FAILED, "community")
    errors = [OMPSUploadedFileError("no zip"), PackageValidationError("no name"), QuayCourierError("no")]
    uploads = [UploadedArchive("a.zip", letter * 64) for letter in "abc"]
    ids = {
        id_of(replace(broken, error=error), ManualRequest(upload))
        for error, upload in zip(errors, uploads, strict=True)
    }
    assert len(ids) == 3


@pytest.mark.parametrize("status", [Status.FAILED, Status.DELETED, Status.UNCHANGED, Status.SKIPPED])
def test_what_somebody_does_twice_by_hand_happens_twice(status):
    outcome = replace(FAILED, status=status)
    assert id_of(outcome, ManualRequest()) != id_of(outcome, ManualRequest())


def test_a_failure_is_another_one_at_the_next_attempt_with_another_error_or_message():
    ids = {
        id_of(FAILED),
        id_of(FAILED, SOURCE, Attempt(2)),
        id_of(FAILED, Source("other", "t")),
        id_of(replace(FAILED, error=QuayAuthorizationError("no"))),
    }
    assert len(ids) == 4


def test_each_retry_that_is_put_off_is_a_fact_of_its_own():
    busy = PackageBusy("Another push was under way.")
    put_off = delivered(waiting_copy(FIRST, busy, None, counts=False))
    again = delivered(waiting_copy(put_off, busy, None, counts=False))
    assert put_off.attempt.number == again.attempt.number == 1
    assert len({failure_of(one, busy) for one in (FIRST, put_off, again)}) == 3


def test_a_message_that_fails_is_sent_again_and_fails_again_is_another_failure_each_time():
    deliveries = [FIRST]
    for _ in range(3):
        parked = delivered(parked_copy(deliveries[-1], KojiError("away"), None, NOW))
        deliveries.append(delivered(replayed_copy(parked, NOW)))
    assert [each.source.replayed for each in deliveries] == [0, 1, 2, 3]
    assert len(set(map(failure_of, deliveries))) == 4


def test_how_often_a_message_was_sent_again_is_kept_while_it_waits_and_while_it_is_parked():
    replayed = delivered(replayed_copy(FIRST, NOW))
    waiting = delivered(waiting_copy(replayed, KojiError("away"), None))
    parked = delivered(parked_copy(waiting, KojiError("away"), None, NOW))
    assert (waiting.source, parked.source) == (replayed.source, replayed.source)
    assert waiting.attempt.interrupted
    assert failure_of(replayed) != failure_of(waiting)


def test_what_is_sent_twice_from_one_file_fails_twice():
    parked = delivered(parked_copy(FIRST, KojiError("away"), None, NOW))
    once = delivered(replayed_copy(parked, NOW))
    twice = delivered(replayed_copy(parked, NOW.replace(microsecond=1)))
    assert once.source.replayed == twice.source.replayed == 1
    assert failure_of(once) != failure_of(twice)


def test_a_message_that_an_older_worker_sent_again_counts_as_sent_again():
    headers: dict[str, Any] = {"omps-replayed-at": NOW.isoformat()}
    old = delivered(BasicProperties(message_id="0fad8d25", headers=headers))
    assert old.source.replayed == 1
    assert delivered(replayed_copy(old, NOW)).source.replayed == 2


@pytest.mark.parametrize("nonsense", [-1, True, "many", 2**40, [1], None])
def test_a_count_from_outside_that_is_none_counts_as_never(nonsense):
    assert delivered(BasicProperties(headers={"omps-replayed": nonsense})).source.replayed == 0


# And whatever the facts are.


names = st.sampled_from([None, "a", "b", "a/b", 'a","b'])
errors: st.SearchStrategy[Callable[[str], Exception]] = st.sampled_from([KojiError, QuayCourierError, PackageBusy])
runs = st.sampled_from(["r1", "r2"])


@st.composite
def tellings(draw) -> tuple[Outcome, Source | ManualRequest, Attempt]:
    """A result that is told, by a message or by hand."""
    status = draw(st.sampled_from(Status))
    failed = status in (Status.FAILED, Status.RETRYING)
    outcome = Outcome(
        status,
        *(draw(names) for _ in range(4)),
        digest=draw(names),
        reason=None if status is Status.PUBLISHED else draw(names),
        error=draw(errors)(draw(st.text(max_size=3))) if failed else None,
        released_at=draw(names) if status is Status.PUBLISHED else None,
    )
    number = st.integers(0, 2)
    message = st.builds(Source, st.sampled_from(["r1", "m"]), st.just("t"), number, names)
    origin = draw(st.one_of(message, st.builds(ManualRequest, st.none(), runs)))
    attempt = Attempt(draw(number) + 1, interrupted=draw(st.booleans()), waits=draw(number))
    return outcome, origin, attempt


def fact(outcome: Outcome, origin: Source | ManualRequest, attempt: Attempt) -> object:
    """What happened, as docs/messages.md tells it."""
    where = (outcome.status, outcome.organization, outcome.repo, outcome.version, outcome.digest, outcome.nvr)
    if outcome.status is Status.PUBLISHED:
        return where, outcome.released_at
    if isinstance(origin, ManualRequest):
        return where, outcome.reason, outcome.error_name, "run", origin.run
    if outcome.error is None:
        return where, outcome.reason, "message", origin.message_id
    of_message = (origin.message_id, origin.replayed, origin.replayed_at, attempt.number, attempt.waits)
    return where, outcome.reason, outcome.error_name, of_message


@given(tellings(), tellings())
def test_two_ids_are_equal_if_and_only_if_the_facts_are(one, other):
    assert (id_of(*one) == id_of(*other)) == (fact(*one) == fact(*other))


@given(tellings(), st.data())
def test_facts_that_differ_in_one_thing_alone_differ_in_their_ids(telling, data):
    outcome, origin, attempt = telling
    _, other_origin, other_attempt = data.draw(tellings())
    for changed in ((outcome, other_origin, attempt), (outcome, origin, other_attempt)):
        assert (id_of(*telling) == id_of(*changed)) == (fact(*telling) == fact(*changed))


@given(tellings())
def test_an_id_is_that_of_the_message_and_says_nothing_else(telling):
    message = Reporter("org.example", REGISTRY).message(*telling)
    assert message.id == id_of(*telling)
    assert len(message.id) == 36
    assert not any(isinstance(part, str) and len(part) > 2 and part in message.id for part in astuple(telling[1]))
