# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever arrives, decode answers or raises MessageError; and a build stays itself in every dialect."""

from __future__ import annotations

import copy
import gzip
import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import MessageError
from omps_worker.common.model import BuildEvent, BuildState, Ignored, OperatorKind
from omps_worker.messages import events
from omps_worker.messages.events import decode, message_id_for
from omps_worker.messages.files import from_dumps
from omps_worker.sandbox.build_system import messages, records

MESSAGES = Path(__file__).parent.parent / "data" / "messages"
COMPLETE = [json.loads(path.read_bytes())["body"] for path in sorted(MESSAGES.glob("*/build.complete.*.json"))]
OBSCURE = ["\ud800", "\x00", "", "\u202e", "1" * 600, "-", "a-b", "COMPLETE", "0", "-1", "2026-13-01", "9999-12-31"]

texts = st.text(max_size=12) | st.sampled_from(OBSCURE)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, True])
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
IDENTITY = ["build_id", "id", "nvr", "name", "version", "release", "owner", "owner_name", "request", "task"]
ENVELOPE = ["attribute", "new", "old", "info", "msg", "headers", "topic", "body", "completion_time", "completion_ts"]
build_keys = st.sampled_from([*IDENTITY, *ENVELOPE])
labels = st.fixed_dictionaries(
    {
        "headers": st.none() | st.dictionaries(texts | build_keys, documents, max_size=3),
        "content_type": st.none() | texts,
        "content_encoding": st.none() | texts | st.sampled_from(["gzip", "utf-8", "x-unknown"]),
        "message_type": st.none() | texts | st.just("amqp-1.0"),
        "topic": texts,
    }
)


def json_string(body: bytes) -> bytes:
    return json.dumps(body.decode()).encode()


def in_msg(body: bytes) -> bytes:
    return b'{"topic": "/topic/x", "headers": {}, "msg": ' + body + b"}"


wrappings = st.lists(st.sampled_from([json_string, in_msg]), max_size=3).flatmap(
    lambda inner: st.sampled_from([bytes, messages.amqp10_value, gzip.compress]).map(lambda outer: [*inner, outer])
)


def wrapped(body: bytes, wraps: list[Any]) -> bytes:
    for wrap in wraps:
        body = wrap(body)
    return body


def check(body: bytes, **how: Any) -> None:
    """``decode`` gives an event that can be relied on, a known reason, or MessageError; nothing else."""
    event = None
    decoded: BuildEvent | Ignored | MessageError
    try:
        decoded = decode(body, **how)
    except MessageError as error:
        decoded = error
    if isinstance(decoded, MessageError):
        assert decoded.message.isprintable()
        assert not decoded.transient
    elif isinstance(decoded, Ignored):
        assert decoded.reason in events.REASONS
    else:
        event = decoded
        check_event(event)
    assert uuid.UUID(message_id_for(event, body)).version == 5


def check_event(event: BuildEvent) -> None:
    assert event.build_id is not None or event.nvr is not None
    if event.build_id is not None:
        assert type(event.build_id) is int
        assert 0 < event.build_id < 2**31
    for text in (event.name, event.version, event.release, event.owner, event.target):
        assert text is None or (text.isprintable() and 0 < len(text) <= events.TEXT_LIMIT)
    if event.nvr is not None:
        assert event.nvr.isprintable()
        assert re.fullmatch(r".+-[^-]+-[^-]+", event.nvr)
    assert event.completed_at is None or event.completed_at.utcoffset() == timedelta(0)


@given(body=st.binary(max_size=200), how=labels)
def test_any_bytes_are_answered(body: bytes, how: dict[str, Any]) -> None:
    check(body, **how)
    for message in from_dumps(body):
        check(message.body, topic=message.topic, headers=message.headers)


@given(document=documents, wraps=wrappings, how=labels)
def test_any_json_is_answered(document: Any, wraps: list[Any], how: dict[str, Any]) -> None:
    check(wrapped(json.dumps(document).encode(), wraps), **how)


@given(build=st.dictionaries(build_keys, documents, max_size=8), wraps=wrappings, how=labels)
def test_any_complete_build_is_answered(build: dict[str, Any], wraps: list[Any], how: dict[str, Any]) -> None:
    check(wrapped(json.dumps({"attribute": "state", "new": 1, **build}).encode(), wraps), **how)
    check(wrapped(json.dumps({"attribute": "state", "new": 1, "info": build}).encode(), wraps), **how)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A recorded message in which a few values were replaced or taken away."""
    body = copy.deepcopy(draw(st.sampled_from(COMPLETE)))
    for _ in range(draw(st.integers(1, 4))):
        place = body
        while True:
            key = draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                del place[key]
            else:
                place[key] = draw(documents)
            break
        if not body:
            break
    return body


@given(body=mutated(), wraps=wrappings, how=labels)
def test_any_mutation_of_a_real_message_is_answered(body: Any, wraps: list[Any], how: dict[str, Any]) -> None:
    check(wrapped(json.dumps(body).encode(), wraps), **how)


@given(
    body=st.sampled_from(COMPLETE),
    wraps=wrappings,
    damages=st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 4)), min_size=1, max_size=4
    ),
)
def test_any_damage_to_a_real_message_is_answered(body: Any, wraps: list[Any], damages: list[Any]) -> None:
    content = wrapped(json.dumps(body).encode(), wraps)
    for place, inserted, removed in damages:
        place %= len(content) + 1
        content = content[:place] + inserted + content[place + removed :]
    check(content)


words = st.from_regex(r"[A-Za-z0-9+~^_.]{1,20}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9+_.]([A-Za-z0-9+_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)


@settings(max_examples=50)
@given(
    build_id=st.integers(1, 2**31 - 1),
    name=names,
    version=words,
    release=words,
    owner=words,
    kind=st.sampled_from(OperatorKind),
    completed=st.datetimes(datetime(2005, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)),
)
def test_a_build_is_the_same_in_every_dialect(
    build_id: int, name: str, version: str, release: str, owner: str, kind: OperatorKind, completed: datetime
) -> None:
    record = records.BuildRecord(
        build_id, name, version, release, None, BuildState.COMPLETE, 1, owner, 1, "DEFAULT", 0, "cg", completed
    )
    record.completed = completed
    record.extra = records.container_extra(
        record, kind=kind, archive="m.zip", typeinfo=True, flat_key=True, subtypes=True
    )
    seen, ids = set(), set()
    for dialect in messages.DIALECTS:
        message = messages.build_message(record.row(), None, dialect, None, 0)
        event = decode(message.body, headers=message.properties["headers"], topic=message.routing_key)
        seen.add(event)
        assert isinstance(event, BuildEvent)
        ids.add(message_id_for(event, message.body))

    assert seen == {BuildEvent(build_id, f"{name}-{version}-{release}", name, version, release, owner, None, completed)}
    assert len(ids) == 1
