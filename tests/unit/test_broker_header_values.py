# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import struct
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from omps_worker.broker.connection import header_values
from omps_worker.broker.connection.header_values import DEPTH_LIMIT, RawValue

header_values.install()


def encoded(properties: BasicProperties) -> bytes:
    return b"".join(properties.encode())


def round_trip(headers: dict) -> dict:
    properties = BasicProperties()
    properties.decode(encoded(BasicProperties(headers=headers)))
    return properties.headers


def table(*fields: bytes) -> bytes:
    content = b"".join(fields)
    return struct.pack(">I", len(content)) + content


def field(name: str, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(
        lambda moment: moment.replace(microsecond=0, tzinfo=timezone.utc)
    )
    | st.integers(-(2**31), 2**31 - 1).map(lambda number: Decimal(number).scaleb(-2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(max_size=20), values, max_size=5))
def test_headers_come_back_as_they_were(headers):
    assert round_trip(headers) == headers


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(max_size=20), values, max_size=5))
def test_headers_are_written_again_as_they_were_read(headers):
    first = encoded(BasicProperties(headers=round_trip(headers)))
    properties = BasicProperties()
    properties.decode(first)
    assert encoded(properties) == first


def test_floating_point_numbers_keep_their_fraction():
    assert round_trip({"half": 0.5, "big": 1e300}) == {"half": 0.5, "big": 1e300}
    read, _ = header_values.decode_table(table(field("half", b"f" + struct.pack(">f", 0.5))), 0)
    assert read == {"half": 0.5}
    assert math.isnan(header_values.decode_value(b"d" + struct.pack(">d", math.nan), 0)[0])


@pytest.mark.parametrize("seconds", [1_700_000_000_000, 2**62, 2**64 - 1])
def test_a_time_out_of_reach_survives(seconds):
    raw = table(field("when", b"T" + struct.pack(">Q", seconds)), field("next", b"t\x01"))
    read, end = header_values.decode_table(raw, 0)
    assert read == {"when": RawValue(b"T" + struct.pack(">Q", seconds)), "next": True}
    assert end == len(raw)
    assert encoded(BasicProperties(headers=read)).endswith(raw)


@pytest.mark.parametrize("wrap", ["table", "array"])
def test_values_nested_without_end_survive(wrap):
    value = b"t\x01"
    for _ in range(5000):
        value = b"F" + table(field("x", value)) if wrap == "table" else b"A" + struct.pack(">I", len(value)) + value
    raw = table(field("deep", value))
    read, end = header_values.decode_table(raw, 0)
    assert end == len(raw)
    assert encoded(BasicProperties(headers=read)).endswith(raw)
    inner, levels = read["deep"], 0
    while isinstance(inner, dict | list):
        inner, levels = inner["x"] if isinstance(inner, dict) else inner[0], levels + 1
    assert levels == DEPTH_LIMIT
    assert "bytes of AMQP type" in repr(inner)
