# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that were kept in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omps_worker.common.errors import MessageError
from omps_worker.common.model import BuildEvent, Ignored
from omps_worker.messages.events import BODY_LIMIT
from omps_worker.messages.files import StoredMessage, from_dump, from_dumps, in_file

MESSAGES = Path(__file__).parent.parent / "data" / "messages"
FEDORA = MESSAGES / "fedora" / "build.complete.operator_appregistry.reserved.json"
PROTON = MESSAGES / "protonmsg" / "build.complete.operator_appregistry.reserved.json"


def recorded(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_a_line_of_fedora_messagings_dump_is_the_message_with_its_topic_id_and_headers() -> None:
    dump = recorded(FEDORA)["fedora_messaging_dump"]
    message = from_dump(json.dumps(dump).encode())

    assert message.topic == "org.fedoraproject.prod.buildsys.build.state.change"
    assert message.message_id == "0fad8d25-7f7a-4dfc-879d-b340e8adb8c8"
    assert message.headers == dump["headers"]
    event = message.decode()
    assert isinstance(event, BuildEvent)
    assert event.nvr == "etcd-operator-container-0.9.2-1"


def test_a_recording_with_routing_key_and_properties_is_the_same_message() -> None:
    assert from_dump(FEDORA.read_bytes()) == from_dump(json.dumps(recorded(FEDORA)["fedora_messaging_dump"]).encode())


@pytest.mark.parametrize("path", [FEDORA, PROTON])
def test_a_bare_body_is_kept_byte_for_byte(path: Path) -> None:
    body = json.dumps(recorded(path)["body"], indent=1).encode()
    message = from_dump(body)

    assert message == StoredMessage(body)
    assert isinstance(message.decode(), BuildEvent)


def test_a_body_that_is_no_json_is_kept_for_decode_to_judge() -> None:
    text = recorded(PROTON)["body_raw"].encode()
    encoded = b"\x00\x53\x77\xb1" + len(text).to_bytes(4, "big") + text

    assert from_dump(encoded) == StoredMessage(encoded)
    assert from_dump(b"hello").body == b"hello"


def test_a_body_that_was_text_stays_text() -> None:
    message = from_dump(json.dumps({"topic": "t", "body": recorded(PROTON)["body_raw"]}).encode())

    assert isinstance(message.decode(), BuildEvent)


def test_odd_headers_ids_and_topics_are_unknown() -> None:
    message = from_dump(json.dumps({"topic": 1, "id": [], "headers": "x", "properties": 5, "body": {}}).encode())

    assert message == StoredMessage(b"{}")
    assert isinstance(message.decode(), Ignored)


def test_a_file_of_lines_holds_one_message_per_line() -> None:
    dumps = [recorded(path)["fedora_messaging_dump"] for path in sorted(MESSAGES.glob("fedora/*.json"))]
    messages = from_dumps(b"\n".join(json.dumps(dump).encode() for dump in dumps) + b"\n\n")

    assert [message.message_id for message in messages] == [dump["id"] for dump in dumps]


def test_a_file_with_one_message_over_several_lines_holds_one() -> None:
    assert [message.message_id for message in from_dumps(FEDORA.read_bytes())] == [
        "0fad8d25-7f7a-4dfc-879d-b340e8adb8c8"
    ]
    assert from_dumps(b"no\nJSON\n") == [StoredMessage(b"no\nJSON\n")]


@pytest.mark.parametrize("key", ["id", "topic"])
def test_what_amqp_cannot_carry_is_refused_before_anybody_tries(key: str) -> None:
    assert from_dump(json.dumps({key: "é" * 127, "body": {}}).encode())
    with pytest.raises(MessageError, match=f"{key} has more than 255 bytes"):
        from_dump(json.dumps({key: "é" * 128, "body": {}}).encode())


@pytest.mark.parametrize("line", ["nothing like it", '{"body": ', '"half', json.dumps({"body": {}, "id": "x" * 300})])
def test_a_line_that_is_damaged_is_named_by_its_number(line: str, tmp_path: Path) -> None:
    good = json.dumps({"topic": "t", "id": "a", "body": {"attribute": "state"}})
    file = tmp_path / "messages"
    file.write_text(f"{good}\n\n{line}\n{good}\n")
    with pytest.raises(MessageError, match="messages: line 3: "):
        list(in_file(file))


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '"etcd-1-1"', "1", "[[]]", '[{"topic": "t", "body": {}}]', '{"status": "failed"}']
)
def test_what_is_json_and_no_message_is_not_taken_for_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "messages"
    file.write_text(text)
    with pytest.raises(MessageError, match="messages: It is no message about a build"):
        list(in_file(file))


def test_a_message_that_was_exported_need_not_be_about_a_build(tmp_path: Path) -> None:
    file = tmp_path / "messages"
    file.write_text(json.dumps({"topic": "t", "id": "a", "body": []}))
    assert [message.body for message in in_file(file)] == [b"[]"]


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(MessageError, match="larger than"):
        from_dump(b" " * (BODY_LIMIT + 1))
