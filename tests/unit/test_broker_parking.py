# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from omps_worker.broker.connection import header_values
from omps_worker.broker.connection.header_values import RawValue
from omps_worker.broker.consuming.suspects import Suspect
from omps_worker.broker.copies import DEFAULT_FRAME, FINDINGS_BYTES, MESSAGE_BYTES, bounded, parked_copy, waiting_copy
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.common.errors import KojiError, PackageBusy, PackageValidationError
from omps_worker.common.model import Attempt, BuildEvent
from omps_worker.messages import events

header_values.install()

NOW = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)
ERROR = KojiError("Koji cannot be reached.")


def delivery(event: BuildEvent | None = None, body: bytes = b"body", exchange: str = "amq.topic",
             routing_key: str = "build.done", redelivered: bool = False, **properties: Any) -> Delivery:  # fmt: skip
    made = BasicProperties(**properties)
    return Delivery(DeliveryTag(1, 1), exchange, routing_key, redelivered, made, body, event, received_at=NOW)


def size(properties: BasicProperties) -> int:
    return sum(map(len, properties.encode()))


def test_a_copy_tells_where_it_came_from_and_why():
    copy = parked_copy(delivery(message_id="abc"), ERROR, ["community/etcd"], NOW)
    assert copy.headers == {
        "omps-topic": "build.done",
        "omps-exchange": "amq.topic",
        "omps-attempt": 1,
        "omps-first-seen": "2026-11-20T10:00:00+00:00",
        "omps-targets": ["community/etcd"],
        "omps-error": "KojiError",
        "omps-error-message": "Koji cannot be reached.",
        "omps-parked-at": "2026-11-20T10:00:00+00:00",
    }
    assert copy.message_id == "abc"


def test_a_copy_keeps_every_cause_until_it_is_tried_again():
    error = PackageValidationError("bad", details={"findings": ["1/a.yaml: one", "2/b.yaml:\ntwo"]})
    copy = parked_copy(delivery(), error, None, NOW)
    assert copy.headers["omps-error-findings"] == ["1/a.yaml: one", "2/b.yaml: two"]
    again = delivery(headers=copy.headers)
    assert "omps-error-findings" not in waiting_copy(again, ERROR, None).headers
    assert "omps-error-findings" not in parked_copy(again, ERROR, None, NOW).headers


def test_very_many_causes_are_kept_as_far_as_there_is_room():
    error = PackageValidationError("bad", details={"findings": ["x" * 2000] * 30})
    copy = parked_copy(delivery(), error, None, NOW)
    assert 10 <= len(copy.headers["omps-error-findings"]) <= FINDINGS_BYTES // MESSAGE_BYTES + 1


def test_what_workers_died_of_is_parked_with_their_number():
    copy = parked_copy(delivery(), Suspect(9, 0, 9).error, None, NOW)
    assert (copy.headers["omps-error"], copy.headers["omps-deaths"]) == ("PoisonMessage", 9)


def test_a_suspicion_outlives_a_retry_and_ends_with_the_work():
    suspect = delivery(headers={"omps-deaths": 9, "x-delivery-count": 2}, redelivered=True)
    assert waiting_copy(suspect, ERROR, None).headers["omps-deaths"] == 9
    assert "omps-deaths" not in parked_copy(suspect, ERROR, None, NOW).headers


def test_everything_else_stays_as_it_came():
    headers = {
        "text": "ä", "number": 2**40, "half": 0.5, "price": Decimal("1.25"), "when": NOW, "raw": b"\xff\x00",
        "nothing": None, "yes": True, "table": {"list": [1, {"deep": "x"}]}, "late": RawValue(b"T" + b"\xff" * 8),
        "x-death": [{"count": 3, "time": NOW, "queue": "q", "routing-keys": ["a"]}],
    }  # fmt: skip
    came = {"content_type": "application/json", "content_encoding": "utf-8", "priority": 4, "type": "amqp-1.0",
            "correlation_id": "c", "reply_to": "r", "app_id": "koji", "timestamp": 1700000000,
            "message_id": "id"}  # fmt: skip
    copy = parked_copy(delivery(headers=headers, **came), ERROR, None, NOW)
    for name, value in headers.items():
        assert copy.headers[name] == value
    for name, value in came.items():
        assert getattr(copy, name) == value


def test_the_message_itself_is_not_changed():
    message = delivery(headers={"CC": ["x"]}, expiration="5", user_id="koji")
    parked_copy(message, ERROR, ["a"], NOW)
    assert message.properties.headers == {"CC": ["x"]}
    assert (message.properties.expiration, message.properties.user_id) == ("5", "koji")


def test_a_copy_cannot_expire_nor_be_refused_for_its_sender_nor_get_lost_with_the_broker():
    copy = parked_copy(delivery(expiration="1000", user_id="koji", delivery_mode=1), ERROR, None, NOW)
    assert (copy.expiration, copy.user_id, copy.delivery_mode) == (None, None, 2)


def test_a_copy_is_sent_to_nobody_else():
    copy = parked_copy(delivery(headers={"CC": ["queue"], "BCC": ["other"]}), ERROR, None, NOW)
    assert "CC" not in copy.headers
    assert "BCC" not in copy.headers
    assert (copy.headers["omps-cc"], copy.headers["omps-bcc"]) == (["queue"], ["other"])


def test_the_counter_of_the_queue_it_leaves_does_not_come_along():
    assert "x-delivery-count" not in parked_copy(delivery(headers={"x-delivery-count": 3}), ERROR, None, NOW).headers


def test_what_earlier_moves_have_written_is_kept():
    earlier = {"omps-topic": "koji.build", "omps-exchange": "koji", "omps-attempt": 3, "omps-targets": ["a/b"],
               "omps-first-seen": "2026-11-19T00:00:00+00:00"}  # fmt: skip
    copy = parked_copy(delivery(exchange="", routing_key="omps-worker", headers=earlier), ERROR, None, NOW)
    assert {name: copy.headers[name] for name in earlier} == earlier


def test_a_message_without_an_id_gets_one_and_keeps_it():
    event = BuildEvent(build_id=42)
    first = parked_copy(delivery(event, body=b"one"), ERROR, None, NOW)
    again = parked_copy(delivery(event, body=b"another"), ERROR, None, NOW)
    assert first.message_id == again.message_id == events.message_id_for(event, b"")
    undecodable = parked_copy(delivery(None, body=b"garbage"), ERROR, None, NOW)
    assert undecodable.message_id == events.message_id_for(None, b"garbage")


def test_a_long_error_message_is_cut_to_a_line():
    copy = parked_copy(delivery(), KojiError("line\nbreak " + "ü" * 3000), None, NOW)
    message = copy.headers["omps-error-message"]
    assert message.startswith("line break ")
    assert message.endswith("…")
    assert len(message.encode()) <= MESSAGE_BYTES


@pytest.mark.parametrize("limit", [DEFAULT_FRAME, 4096])
def test_a_copy_always_fits_in_one_frame(limit, caplog):
    headers = {f"header-{number}": "x" * (limit // 10) for number in range(9)} | {"small": "kept"}
    copy = parked_copy(delivery(headers=headers), KojiError("y" * 4000), ["t/r"] * 400, NOW, frame_max=limit)
    assert size(copy) < limit
    assert copy.headers["small"] == "kept"
    assert copy.headers["omps-error"] == "KojiError"
    if limit == 4096:
        assert "is left out of its copy" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, {"deep": [-float("inf")]}]], ids=str)
def test_a_header_for_which_the_broker_would_break_off_is_left_out(value, caplog):
    copy = parked_copy(delivery(message_id="id", headers={"odd": value, "even": 2.5}), ERROR, None, NOW)
    assert "odd" not in copy.headers
    assert copy.headers["even"] == 2.5
    assert "the header odd" in caplog.text


def test_a_header_that_cannot_be_written_does_not_hold_up_the_copy(caplog):
    copy = parked_copy(delivery(headers={"odd": object(), "good": 1}, message_id="m"), ERROR, None, NOW)
    assert copy.headers["good"] == 1
    assert size(copy) > 0
    assert "header odd of message m" in caplog.text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.integers(8, 100))
def test_bounded_texts_are_one_line_of_at_most_so_many_bytes(text, limit):
    line = bounded(text, limit)
    assert len(line.encode()) <= limit
    assert line.isprintable()


def test_a_copy_that_waits_forgets_that_the_message_died_where_it_goes_back_to():
    there, elsewhere = {"queue": "omps-worker", "reason": "delivery_limit"}, {"queue": "omps-worker.retry.10s"}
    message = delivery(headers={"x-death": [there, elsewhere, "odd"]})
    assert waiting_copy(message, ERROR, None, queue="omps-worker").headers["x-death"] == [elsewhere, "odd"]
    assert message.headers["x-death"] == [there, elsewhere, "odd"]
    assert parked_copy(message, ERROR, None, NOW).headers["x-death"] == [there, elsewhere, "odd"]


def test_an_attempt_is_interrupted_when_work_may_have_begun_before():
    assert delivery().attempt == Attempt(1, interrupted=False)
    assert delivery(redelivered=True).attempt == Attempt(1, interrupted=True)
    assert delivery(headers={"omps-attempt": 3}).attempt == Attempt(3, interrupted=True)
    replayed = delivery(headers={"omps-replayed-at": "2026-11-20T10:00:00Z"})
    assert replayed.attempt == Attempt(1, interrupted=True, late=True)


def test_the_message_of_a_catch_up_comes_late_and_is_nobodys_interrupted_work():
    assert delivery(headers={"omps-catch-up": "2026-11-20T10:00:00Z"}).attempt == Attempt(1, late=True)


def test_deliveries_of_one_message_have_one_key_and_its_retries_another():
    first, again = delivery(message_id="a"), delivery(message_id="a", redelivered=True)
    assert first.key == again.key
    assert delivery(message_id="a", headers={"x-delivery-count": 2}).key == first.key
    for other in (
        delivery(message_id="b"),
        delivery(message_id="a", body=b"other"),
        delivery(message_id="a", headers={"omps-attempt": 2}),
        delivery(message_id="a", headers={"omps-replayed-at": "now"}),
    ):
        assert other.key != first.key


def test_a_copy_that_waits_is_the_next_attempt():
    copy = waiting_copy(delivery(headers={"omps-attempt": 2}), ERROR, ["community/etcd"])
    assert copy.headers["omps-attempt"] == 3
    assert copy.headers["omps-targets"] == ["community/etcd"]
    assert "omps-waits" not in copy.headers


def test_a_copy_of_what_was_only_put_off_is_the_same_attempt_and_yet_another_message():
    came = delivery(message_id="a", headers={"omps-attempt": 2})
    copies = [came]
    for waits in (1, 2, 3):
        copy = waiting_copy(copies[-1], PackageBusy("busy"), None, counts=False)
        assert (copy.headers["omps-attempt"], copy.headers["omps-waits"]) == (2, waits)
        copies.append(delivery(message_id="a", headers=copy.headers))
    assert len({copy.key for copy in copies}) == 4


def test_names_that_are_not_text_are_made_readable():
    odd = delivery(message_id=b"\xff\xfe", headers={b"\xff": 1})
    assert odd.message_id == "\ufffd\ufffd"
    copy = parked_copy(odd, ERROR, None, NOW)
    assert copy.message_id == b"\xff\xfe"
    assert size(copy) > 0
