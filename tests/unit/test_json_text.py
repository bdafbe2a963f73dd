# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON from outside, however it is nested, at every door through which it comes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from pika.spec import BasicProperties

from omps_worker.broker.dead_letters import dumps
from omps_worker.broker.dead_letters.message import read
from omps_worker.cli.watch_view import read as read_result
from omps_worker.common.error_details import DETAILS_DEPTH, DETAILS_LIMIT, limited
from omps_worker.common.errors import GreenwaveError, MessageError
from omps_worker.common.http_client.client import Answer, parse_json
from omps_worker.common.json_text import DEPTH_LIMIT, TooDeep, TooMany, cut_below, is_deeper, read_json
from omps_worker.common.model import BuildEvent, OperatorKind
from omps_worker.destinations.refusals import Scrubber, summary_of
from omps_worker.koji_client.answers import build_of
from omps_worker.messages.dead_letter import details_text
from omps_worker.messages.events import decode
from omps_worker.messages.files import from_dump, from_dumps

LEVELS = (500, 5_000, 100_000)
SHAPES: dict[str, Callable[[int], str]] = {
    "arrays": lambda levels: "[" * levels + "]" * levels,
    "objects": lambda levels: '{"a":' * levels + "1" + "}" * levels,
    "both": lambda levels: '[{"a":' * (levels // 2) + "1" + "}]" * (levels // 2),
}
shaped = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
deep = pytest.mark.parametrize("levels", LEVELS)


def nested(levels: int) -> Any:
    """Lists within lists, made without recursion."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@shaped
def test_what_is_as_deep_as_it_may_be_is_read_and_one_level_more_is_not(shape: Callable[[int], str]) -> None:
    assert read_json(shape(DEPTH_LIMIT)) == json.loads(shape(DEPTH_LIMIT))
    with pytest.raises(TooDeep, match="200"):
        read_json(shape(DEPTH_LIMIT + 2))


@deep
@shaped
def test_the_limit_does_not_depend_on_how_much_stack_there_is(shape: Callable[[int], str], levels: int) -> None:
    with pytest.raises(TooDeep):
        read_json(shape(levels))


def test_brackets_in_texts_and_side_by_side_are_not_depth() -> None:
    wide = json.dumps({"text": "[" * 10_000, "list": [[] for _ in range(10_000)]})
    assert read_json(wide) == json.loads(wide)


def test_more_objects_and_arrays_than_there_may_be_are_not_even_parsed() -> None:
    with pytest.raises(TooMany, match="more than 10 "):
        read_json("[" + "{}," * 10 + "{}]", containers=10)
    assert read_json("[{},{}]", containers=3) == [{}, {}]


def test_depth_is_measured_and_cut_without_a_stack() -> None:
    for levels in (1, 5, 100_000):
        assert is_deeper(nested(levels), levels - 1)
        assert not is_deeper(nested(levels), levels)
    assert not is_deeper("text", 0)
    assert cut_below({"a": [1, {"b": ({},)}]}, 3) == {"a": [1, {"b": "…"}]}


# The doors


@deep
def test_the_details_of_an_error_are_cut_where_they_are_too_deep(levels: int) -> None:
    error = GreenwaveError("no", details={"greenwave_response": {"n": nested(levels), "pad": "x" * 70_000}})
    assert error.details["truncated"] is True
    assert len(json.dumps(error.details)) <= DETAILS_LIMIT
    assert not is_deeper(error.details, DETAILS_DEPTH)


def test_details_that_are_only_deep_lose_nothing_but_the_depth() -> None:
    cut = limited({"summary": "2 of 3 tests failed", "n": nested(500)})
    assert (cut["summary"], cut["truncated"]) == ("2 of 3 tests failed", True)
    shallow = {"n": nested(DETAILS_DEPTH - 1)}
    assert limited(shallow) == shallow


@deep
@shaped
def test_an_answer_that_is_too_deep_is_no_json(shape: Callable[[int], str], levels: int) -> None:
    assert parse_json(shape(levels)) is None
    told = summary_of(Answer(500, {}, shape(levels).encode()), Scrubber())
    assert told.text
    assert told.response == {}


@deep
@shaped
def test_a_message_that_is_too_deep_cannot_be_read(shape: Callable[[int], str], levels: int) -> None:
    complete = '{"attribute": "state", "new": 1, "build_id": 1, "x": ' + shape(levels) + "}"
    for body in (shape(levels), complete, json.dumps(complete), '{"msg": ' + json.dumps(complete) + "}"):
        with pytest.raises(MessageError, match="nested too deeply"):
            decode(body.encode())


@deep
@shaped
def test_a_message_in_a_file_that_is_too_deep_cannot_be_read(shape: Callable[[int], str], levels: int) -> None:
    for key in ("body", "headers", "properties", "amqp"):
        document = '{"topic": "t", "body": {}, "' + key + '": ' + shape(levels) + "}"
        for pad in ("", " " * 5_000_000):
            with pytest.raises(MessageError):
                from_dump((document + pad).encode()).decode()
        with pytest.raises(MessageError):
            [message.decode() for message in from_dumps(f"{document}\n{document}\n".encode())]


@deep
@shaped
def test_the_exact_body_of_a_dump_may_be_of_any_depth(shape: Callable[[int], str], levels: int) -> None:
    body = shape(levels).encode()
    document = {"topic": "t", "body": None, "amqp": {"body": base64.b64encode(body).decode()}}
    assert from_dump(json.dumps(document).encode()).body == body


@pytest.mark.parametrize("levels", [10, 99, 100, 101, 199, 200, 201, *LEVELS])
def test_a_parked_message_of_any_depth_is_shown_exported_and_read_again(levels: int) -> None:
    body = SHAPES["objects"](levels).encode()
    parked = read(BasicProperties(message_id="m"), body, "q")
    line = json.dumps(dumps.dump(parked)).encode()
    assert from_dump(line).body == body
    shown = dumps.details(parked)
    json.dumps(shown)
    assert details_text(shown)


@deep
@shaped
def test_a_result_that_is_too_deep_is_none(shape: Callable[[int], str], levels: int) -> None:
    body = '{"status": "failed", "error": ' + shape(levels) + "}"
    with pytest.raises(MessageError):
        read_result("t", None, {}, body.encode())


@deep
@shaped
def test_extra_that_is_text_and_too_deep_means_no_manifests(shape: Callable[[int], str], levels: int) -> None:
    extra = '{"operator_manifests_archive": "a.zip", "x": ' + shape(levels) + "}"
    info = {"id": 1, "state": 1, "nvr": "a-1-1", "name": "a", "version": "1", "release": "1", "extra": extra}
    assert build_of(info, None).kind is OperatorKind.NONE


def test_a_message_is_read_whatever_depth_within_the_limit_it_carries_along() -> None:
    body = b'{"attribute": "state", "new": 1, "build_id": 7, "x": ' + SHAPES["arrays"](150).encode() + b"}"
    event = decode(body)
    assert isinstance(event, BuildEvent)
    assert event.build_id == 7
