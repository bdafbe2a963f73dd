# SPDX-License-Identifier: GPL-3.0-or-later
"""What a message on the bus says, whatever it is wrapped in."""

from __future__ import annotations

import gzip
import json
import struct
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from omps_worker.common.errors import MessageError
from omps_worker.common.model import BuildEvent, BuildFacts, Ignored
from omps_worker.messages import events
from omps_worker.messages.events import decode, message_id_for

MESSAGES = Path(__file__).parent.parent / "data" / "messages"
FEDORA_COMPLETE = "fedora/build.complete.operator_appregistry.reserved"
PROTON_COMPLETE = "protonmsg/build.complete.operator_appregistry.reserved"


def recorded(name: str) -> Any:
    return json.loads((MESSAGES / f"{name}.json").read_bytes())


def body_of(name: str, **changes: Any) -> dict[str, Any]:
    """The body of a recorded message, with some keys changed; a key set to ... is left out."""
    body = {**recorded(name)["body"], **changes}
    return {key: value for key, value in body.items() if value is not ...}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def event_of(document: Any, **labels: Any) -> BuildEvent:
    event = decode(document if isinstance(document, bytes) else encoded(document), **labels)
    assert isinstance(event, BuildEvent)
    return event


def complete(**build: Any) -> dict[str, Any]:
    """A complete build in Fedora's dialect, with nothing but the given fields."""
    return {"attribute": "state", "old": 0, "new": 1, **build}


def test_a_complete_build_in_fedoras_dialect_is_an_event() -> None:
    event = event_of(body_of(FEDORA_COMPLETE))

    assert event == BuildEvent(
        build_id=1,
        nvr="etcd-operator-container-0.9.2-1",
        name="etcd-operator-container",
        version="0.9.2",
        release="1",
        owner="jdoe",
        target="operators-1-candidate",
        completed_at=datetime(2026, 11, 21, 1, 22, 30, 632590, timezone.utc),
    )
    assert event.facts == BuildFacts(
        "etcd-operator-container", "etcd-operator-container-0.9.2-1", "jdoe", "operators-1-candidate"
    )


def test_a_complete_build_in_kojis_own_dialect_is_the_same_event_without_a_target() -> None:
    event = event_of(recorded(PROTON_COMPLETE)["body_raw"].encode())

    assert event == BuildEvent(
        build_id=1,
        nvr="etcd-operator-container-0.9.2-1",
        name="etcd-operator-container",
        version="0.9.2",
        release="1",
        owner="jdoe",
        target=None,
        completed_at=datetime(2026, 11, 21, 1, 22, 30, 632590, timezone.utc),
    )


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_of_the_recorded_messages_only_those_of_complete_builds_are_events(path: Path) -> None:
    message = json.loads(path.read_bytes())
    decoded = decode(encoded(message["body"]), topic="the.topic")

    if path.name.startswith("build.complete."):
        assert isinstance(decoded, BuildEvent)
        assert decoded.build_id == message["body"].get("build_id", message["body"].get("info", {}).get("build_id"))
    elif path.name.startswith("tag"):
        assert decoded == Ignored(events.NOT_A_BUILD_MESSAGE, "the.topic")
    else:
        assert decoded == Ignored(events.NOT_COMPLETE, "the.topic")


def test_a_message_of_2023_without_task_and_urls_is_read() -> None:
    event = event_of(body_of(FEDORA_COMPLETE, task=..., url=..., base_url=...))

    assert (event.build_id, event.target) == (1, "operators-1-candidate")


def test_the_target_comes_from_the_task_where_the_body_has_no_request() -> None:
    assert event_of(body_of(FEDORA_COMPLETE, request=...)).target == "operators-1-candidate"
    assert event_of(body_of(FEDORA_COMPLETE, request=None)).target == "operators-1-candidate"


@pytest.mark.parametrize("request_", [None, [], ["source"], ["source", None], ["source", {"target": 1}], "st", 7])
def test_without_a_task_or_with_an_odd_one_the_target_is_unknown(request_: Any) -> None:
    assert event_of(body_of(FEDORA_COMPLETE, request=request_, task=None)).target is None
    assert event_of(body_of(FEDORA_COMPLETE, request=None, task={"request": request_})).target is None
    assert event_of(body_of(FEDORA_COMPLETE, request=None, task=request_)).target is None


def json_string(text: str) -> bytes:
    return json.dumps(text).encode()


def amqp_value(text: str, descriptor: bytes = b"\x00\x53\x77") -> bytes:
    content = text.encode()
    return descriptor + b"\xb1" + struct.pack(">I", len(content)) + content


WRAPPINGS = {
    "bare": str.encode,
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "in msg": lambda text: encoded({"topic": "/topic/x", "headers": {"new": "COMPLETE"}, "msg": json.loads(text)}),
    "as text in msg": lambda text: encoded({"topic": "/topic/x", "headers": {}, "msg": text}),
    "in msg in msg": lambda text: encoded({"msg": {"topic": "t", "msg": json.loads(text)}}),
    "JSON string": json_string,
    "JSON string twice": lambda text: json_string(json.dumps(text)),
    "in msg in a JSON string": lambda text: json_string(json.dumps({"msg": json.loads(text)})),
    "gzip": lambda text: gzip.compress(text.encode()),
    "AMQP 1.0 value, str32": amqp_value,
    "AMQP 1.0 value, long descriptor": lambda text: amqp_value(text, b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x77"),
    "AMQP 1.0 value of a JSON string": lambda text: amqp_value(json.dumps(text)),
    "AMQP 1.0 data": lambda text: b"\x00\x53\x75\xb0" + struct.pack(">I", len(text.encode())) + text.encode(),
    "AMQP 1.0 data in two sections": lambda text: (
        b"\x00\x53\x75\xa0\x05"
        + text.encode()[:5]
        + b"\x00\x53\x75\xb0"
        + struct.pack(">I", len(text.encode()) - 5)
        + text.encode()[5:]
    ),
    "AMQP 1.0 with the sections around": lambda text: (
        b"\x00\x53\x70\xc0\x03\x01\x41\x41"  # a header
        + b"\x00\x53\x73\x45"  # no properties
        + b"\x00\x53\x74\xd1\x00\x00\x00\x04\x00\x00\x00\x00"  # no application properties
        + amqp_value(text)
        + b"\x00\x53\x78\xc1\x01\x00"  # a footer
    ),
    "AMQP 1.0 in gzip": lambda text: gzip.compress(amqp_value(text)),
}


@pytest.mark.parametrize("dialect", [FEDORA_COMPLETE, PROTON_COMPLETE])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize(
    "labels",
    [{}, {"message_type": "amqp-1.0"}, {"content_encoding": "utf-8", "content_type": "application/json"}],
    ids=["unlabelled", "labelled amqp-1.0", "labelled JSON"],
)
def test_a_message_means_the_same_however_it_is_wrapped_and_labelled(
    dialect: str, wrap: Any, labels: dict[str, str]
) -> None:
    plain = encoded(body_of(dialect))

    assert decode(wrap(plain.decode()), **labels) == decode(plain)


def test_a_short_amqp_string_is_read() -> None:
    text = json.dumps(complete(build_id=5))
    assert event_of(b"\x00\x53\x77\xa1" + bytes((len(text),)) + text.encode()).build_id == 5


def proton(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = body_of(PROTON_COMPLETE)
    body["info"] = {key: value for key, value in {**body["info"], **changes}.items() if value is not ...}
    return body


@pytest.mark.parametrize(
    "changes",
    [{"extra": ...}, {"extra": json.dumps({"typeinfo": {}})}, {"extra": None}, {"build_id": ...}, {"nvr": ...}],
    ids=["no extra", "extra as text", "extra null", "id only", "no nvr"],
)
def test_kojis_older_and_shortened_infos_name_the_same_build(changes: dict[str, Any]) -> None:
    assert event_of(proton(**changes)) == event_of(proton())


def test_an_info_without_any_id_is_known_by_its_nvr() -> None:
    event = event_of(proton(build_id=..., id=..., nvr=...))

    assert (event.build_id, event.nvr) == (None, "etcd-operator-container-0.9.2-1")


def test_an_nvr_alone_gives_name_version_and_release() -> None:
    event = event_of(complete(nvr="my-operator-1.0-2.el8"))

    assert (event.name, event.version, event.release) == ("my-operator", "1.0", "2.el8")


def test_a_build_id_alone_is_enough() -> None:
    assert event_of(complete(build_id=7)) == BuildEvent(build_id=7)


def test_a_bridges_headers_name_the_build_when_the_body_does_not() -> None:
    headers = recorded(PROTON_COMPLETE)["application-properties"]

    assert event_of(complete(info={}), headers=headers).nvr == "etcd-operator-container-0.9.2-1"


@pytest.mark.parametrize("state", [1, "COMPLETE", 1.0])
def test_complete_may_be_said_in_several_ways(state: Any) -> None:
    assert event_of(complete(build_id=7, new=state)).build_id == 7


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, -1, None, True, False, [], {}, "FAILED", "BUILDING", float("nan")])
def test_every_other_state_is_not_complete(state: Any) -> None:
    assert decode(encoded(complete(build_id=7, new=state))) == Ignored(events.NOT_COMPLETE)


def test_a_task_that_changes_its_state_is_not_a_build_message() -> None:
    task = {"attribute": "state", "old": "OPEN", "new": "CLOSED", "info": {"id": 5, "method": "buildContainer"}}

    assert decode(encoded(task)) == Ignored(events.NOT_A_BUILD_MESSAGE)


@pytest.mark.parametrize("attribute", ["volume", "owner_name", None, 1, ["state"], {"state": 1}])
def test_a_change_of_another_attribute_is_not_a_state_change(attribute: Any) -> None:
    assert decode(encoded(complete(build_id=7, attribute=attribute))) == Ignored(events.NOT_A_STATE_CHANGE)


@pytest.mark.parametrize(
    "document", [None, 1, [], {}, "", "ping", [1], {"msg": None}, {"msg": "hello"}, {"msg": [{"attribute": "state"}]}]
)
def test_json_of_another_kind_is_not_a_build_message(document: Any) -> None:
    assert decode(encoded(document)) == Ignored(events.NOT_A_BUILD_MESSAGE)


def wrapped_often(times: int) -> bytes:
    return b'{"msg":' * times + encoded(complete(build_id=7)) + b"}" * times


def test_a_message_wrapped_again_and_again_is_not_unwrapped_for_ever() -> None:
    assert event_of(wrapped_often(3)).build_id == 7
    assert decode(wrapped_often(100)) == Ignored(events.NOT_A_BUILD_MESSAGE)


UNREADABLE = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "no JSON": (b"hello", "not JSON"),
    "cut off": (encoded(complete(build_id=7))[:-1], "not JSON"),
    "two documents": (b"{}{}", "not JSON"),
    "no UTF-8": (b'{"attribute": "\xff"}', "UTF-8"),
    "a JSON string of something cut off": (json_string('{"attribute": "state'), "not JSON"),
    "too deep": (b"[" * 100_000 + b"]" * 100_000, "too deep"),
    "too deep in an object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
    "too large": (b" " * events.BODY_LIMIT + b"{}", "larger than"),
    "too large in gzip": (gzip.compress(b" " * events.BODY_LIMIT + b"{}"), "larger than"),
    "damaged gzip": (gzip.compress(b"{}")[:4] + b"x" * 20, "gzip"),
    "cut off gzip": (gzip.compress(encoded(proton()))[:-20], "gzip"),
    "gzip with something behind": (gzip.compress(b"{}") + b"more", "gzip"),
    "gzip in gzip": (gzip.compress(gzip.compress(b"{}")), "UTF-8"),
    "AMQP 1.0 of zeros": (b"\0" * 100, "AMQP 1.0"),
    "AMQP 1.0 cut off in the descriptor": (b"\x00\x53", "AMQP 1.0"),
    "AMQP 1.0 cut off in a long descriptor": (b"\x00\x80\x00\x00\x77", "AMQP 1.0"),
    "AMQP 1.0 cut off in the size": (b"\x00\x53\x77\xb1\x00\x00", "AMQP 1.0"),
    "AMQP 1.0 cut off in the text": (amqp_value("{}")[:-1], "AMQP 1.0"),
    "AMQP 1.0 with a size beyond the end": (b"\x00\x53\x77\xb1\xff\xff\xff\xff{}", "AMQP 1.0"),
    "AMQP 1.0 of another section": (b"\x00\x53\x10\xa1\x02{}", "AMQP 1.0"),
    "AMQP 1.0 map": (b"\x00\x53\x77\xc1\x01\x00", "type 0xc1"),
    "AMQP 1.0 null": (b"\x00\x53\x77\x40", "type 0x40"),
    "AMQP 1.0 without a body": (b"\x00\x53\x73\x45", "empty"),
    "AMQP 1.0 of a thousand sections": (b"\x00\x53\x75\xa0\x00" * 1000, "AMQP 1.0"),
}


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_a_message_error_that_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason) as caught:
        decode(body)

    assert not caught.value.transient
    assert len(caught.value.message) < 300


def test_the_label_of_an_unknown_encoding_is_named_in_the_error() -> None:
    with pytest.raises(MessageError, match="'x-snappy'"):
        decode(b"\xff\x06\x00\x00sNaPpY", content_encoding="x-snappy")


def test_a_wrong_label_on_plain_json_does_no_harm() -> None:
    assert event_of(complete(build_id=7), content_encoding="gzip", message_type="amqp-1.0").build_id == 7


NO_IDS = [0, -1, True, False, 1.5, 7.0, "", "x", "-1", "1e3", "1_0", "٣", [], [7], {}, 2**31, 10**30, "9" * 11, None]


@pytest.mark.parametrize("build_id", NO_IDS)
def test_what_is_no_build_id_is_unknown(build_id: Any) -> None:
    assert event_of(complete(build_id=build_id, nvr="a-1-1")) == event_of(complete(nvr="a-1-1"))
    with pytest.raises(MessageError, match="does not name the build: it has no build id"):
        decode(encoded(complete(build_id=build_id)))


def test_a_build_id_may_be_written_as_digits() -> None:
    assert event_of(complete(build_id="123")).build_id == 123
    assert event_of(complete(build_id=2**31 - 1)).build_id == 2**31 - 1


NO_TEXTS = ["", " ", "a\x00", "line\nbreak", "\x1b[31m", "\ud800", "\u202e", "\x85", "\u2028", "x" * 513, 1, []]


@pytest.mark.parametrize("text", NO_TEXTS)
def test_a_text_that_cannot_be_shown_or_is_too_long_is_unknown(text: Any) -> None:
    event = event_of(complete(build_id=7, name=text, version="1", release="1", owner=text, request=["source", text]))

    assert (event.name, event.nvr, event.owner, event.target) == (None, None, None, None)
    with pytest.raises(MessageError, match="does not name the build"):
        decode(encoded(complete(name=text, version="1", release="1", nvr=text)))


@pytest.mark.parametrize("nvr", ["a", "a-b", "a--1", "-1-1", "a-1-", "--", "a-1-1\n"])
def test_an_nvr_that_is_none_is_not_asked_for(nvr: str) -> None:
    assert event_of(complete(nvr=nvr, name="a", version="1", release="2")).nvr == "a-1-2"
    with pytest.raises(MessageError, match="does not name the build"):
        decode(encoded(complete(nvr=nvr)))


def test_a_version_with_a_dash_makes_no_nvr() -> None:
    event = event_of(complete(build_id=7, name="a", version="1-2", release="3"))

    assert (event.nvr, event.version) == (None, None)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-21T01:22:30.632590+00:00", datetime(2026, 11, 21, 1, 22, 30, 632590, timezone.utc)),
        ("2026-11-21 01:22:30+00:00", datetime(2026, 11, 21, 1, 22, 30, 0, timezone.utc)),
        ("2026-11-21T01:22:30Z", datetime(2026, 11, 21, 1, 22, 30, 0, timezone.utc)),
        ("2026-11-21 01:22:30", datetime(2026, 11, 21, 1, 22, 30, 0, timezone.utc)),
        ("2026-11-21T02:22:30+01:00", datetime(2026, 11, 21, 1, 22, 30, 0, timezone.utc)),
        (1795224150, datetime(2026, 11, 21, 1, 22, 30, 0, timezone.utc)),
        ("yesterday", None),
        ("", None),
        ("9999-12-31T23:59:59-23:00", None),
        (True, None),
        (1e300, None),
        (10**300, None),
        (float("nan"), None),
        (float("inf"), None),
        ([], None),
        (None, None),
    ],
)
def test_the_time_of_completion_is_utc_or_unknown(said: Any, meant: datetime | None) -> None:
    assert event_of(complete(build_id=7, completion_time=said)).completed_at == meant


def test_the_timestamp_helps_out_where_the_time_cannot_be_read() -> None:
    event = event_of(complete(info={"id": 7, "completion_time": "soon", "completion_ts": 1795224150.5}))

    assert event.completed_at == datetime(2026, 11, 21, 1, 22, 30, 500000, timezone.utc)


def test_endless_numbers_do_no_harm_where_they_are_not_needed() -> None:
    endless = b"1" * 5000

    assert event_of(b'{"attribute":"state","new":1,"build_id":7,"old":' + endless + b"}").build_id == 7
    with pytest.raises(MessageError, match="does not name the build"):
        decode(b'{"attribute":"state","new":1,"build_id":' + endless + b"}")
    with pytest.raises(MessageError, match="not JSON"):
        decode(b'{"old":' + endless)


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert event_of(b'{"attribute":"x","attribute":"state","new":0,"new":1,"build_id":6,"build_id":7}').build_id == 7


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"attribute":"state","new":1,"info":null}', "does not name the build"),
        (b'{"attribute":"state","new":1}', "does not name the build"),
    ],
)
def test_a_complete_build_without_a_name_is_an_error(body: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        decode(body)


def test_messages_of_one_build_get_one_id_in_every_dialect() -> None:
    fedora, proton_ = encoded(body_of(FEDORA_COMPLETE)), encoded(proton())
    ids = {message_id_for(event_of(body), body) for body in (fedora, proton_, gzip.compress(fedora))}

    assert ids == {str(uuid.uuid5(events.MESSAGE_ID_NAMESPACE, "build:1"))}


def test_messages_that_name_no_build_id_get_an_id_from_their_body() -> None:
    by_nvr = event_of(complete(nvr="a-1-1"))
    ids = [message_id_for(None, b"one"), message_id_for(None, b"two"), message_id_for(by_nvr, b"three")]

    assert len(set(ids)) == 3
    assert [message_id_for(None, b"one"), message_id_for(None, b"two"), message_id_for(None, b"three")] == ids
    assert all(uuid.UUID(an_id).version == 5 for an_id in ids)


# Drafts


def test_a_draft_in_fedoras_dialect_is_known_by_its_release() -> None:
    draft = encoded(body_of(FEDORA_COMPLETE, release="1,draft_1"))
    assert decode(draft, topic="the.topic") == Ignored(events.DRAFT_BUILD, "the.topic")
    assert event_of(body_of(FEDORA_COMPLETE, release="1,draft_2")).release == "1,draft_2"


def test_a_draft_in_kojis_own_dialect_says_so() -> None:
    def body(**info: Any) -> bytes:
        message = recorded(PROTON_COMPLETE)["body"]
        return encoded({**message, "info": {**message["info"], **info}})

    assert decode(body(draft=True)) == Ignored(events.DRAFT_BUILD)
    assert decode(body(draft=True, release="1,draft_1", nvr=None)) == Ignored(events.DRAFT_BUILD)
    for value in (False, None, 1, "true", []):
        assert event_of(body(draft=value)).build_id == 1


def promotion(**changes: Any) -> bytes:
    build = recorded(PROTON_COMPLETE)["body"]["info"]
    message = {"draft_release": "1,draft_1", "target_release": "1", "build": build, "user": {"name": "jdoe"}}
    return encoded({**message, **changes})


def test_a_promotion_is_the_event_of_a_build_that_is_complete() -> None:
    assert event_of(promotion()) == event_of(recorded(PROTON_COMPLETE)["body_raw"].encode())
    assert event_of(encoded({"topic": "t", "msg": json.loads(promotion())})).nvr == "etcd-operator-container-0.9.2-1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"build": None}, events.NOT_A_BUILD_MESSAGE),
        ({"build": []}, events.NOT_A_BUILD_MESSAGE),
        ({"draft_release": None}, events.NOT_A_BUILD_MESSAGE),
        ({"target_release": 7}, events.NOT_A_BUILD_MESSAGE),
        ({"build": {"build_id": 1, "state": 2}}, events.NOT_COMPLETE),
        ({"build": {"build_id": 1}}, events.NOT_COMPLETE),
        ({"build": {"build_id": 1, "state": 1, "draft": True}}, events.DRAFT_BUILD),
    ],
    ids=str,
)
def test_what_is_no_promotion_of_a_complete_build_is_ignored(changes: dict[str, Any], reason: str) -> None:
    assert decode(promotion(**changes)) == Ignored(reason)


def test_a_promotion_that_names_no_build_cannot_be_read() -> None:
    with pytest.raises(MessageError, match="does not name the build"):
        decode(promotion(build={"state": 1}))


# Several Kojis


def test_messages_that_name_another_koji_are_ignored_if_one_is_configured() -> None:
    def decoded(body: bytes, instance: str | None) -> Any:
        return decode(body, topic="the.topic", instance=instance)

    ours, theirs = (encoded(body_of(FEDORA_COMPLETE, instance=instance)) for instance in ("primary", "s390"))
    for body in (ours, theirs):
        assert isinstance(decoded(body, None), BuildEvent)
    assert isinstance(decoded(ours, "primary"), BuildEvent)
    assert decoded(theirs, "primary") == Ignored(events.OTHER_INSTANCE, "the.topic")
    assert decoded(ours, "s390") == Ignored(events.OTHER_INSTANCE, "the.topic")
    # A draft of another Koji is first of all another Koji's.
    draft = encoded(body_of(FEDORA_COMPLETE, instance="s390", release="1,draft_1"))
    assert decoded(draft, "primary").reason == events.OTHER_INSTANCE


@pytest.mark.parametrize("named", [..., None, "", 7, ["s390"]])
def test_a_message_that_names_no_koji_is_taken(named: Any) -> None:
    assert isinstance(decode(encoded(body_of(FEDORA_COMPLETE, instance=named)), instance="primary"), BuildEvent)
    assert isinstance(decode(recorded(PROTON_COMPLETE)["body_raw"].encode(), instance="primary"), BuildEvent)
