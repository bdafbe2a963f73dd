# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding and encoding of header values that pika alone would change or fail on.

pika 1.4 decodes floating-point numbers to integers and cannot encode them. It raises an exception on a time beyond the
year 9999 (milliseconds where seconds are expected) and on tables nested a few hundred levels deep. The exception ends
the connection, the broker redelivers the message, and so on: one such message would keep a worker from all others.
``install`` replaces pika's functions for the whole process.

Field types and their encoding: AMQP 0-9-1 section 4.2.5.5 with RabbitMQ's errata,
https://www.rabbitmq.com/amqp-0-9-1-errata#section_3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pika.data

DEPTH_LIMIT = 32
"""Tables and arrays nested deeper than this are kept as ``RawValue``."""

_TABLE, _ARRAY, _TIME, _FLOAT, _DOUBLE, _TEXT = b"F", b"A", b"T", b"f", b"d", b"S"

_length_at = struct.Struct(">I").unpack_from
_pika_decode = pika.data.decode_value
_pika_encode = pika.data.encode_value


@dataclass(frozen=True, slots=True)
class RawValue:
    """A header value kept as it was received: one byte for the type, then the content."""

    encoded: bytes

    def __repr__(self) -> str:
        return f"<{len(self.encoded) - 1} bytes of AMQP type {self.encoded[:1].decode('ascii', 'replace')}>"


def install() -> None:
    """Make pika use the functions of this module. Calling it twice is harmless."""
    pika.data.decode_value = decode_value
    pika.data.encode_value = encode_value
    pika.data.decode_table = decode_table


def decode_table(encoded: bytes, offset: int) -> tuple[dict[str | bytes, Any], int]:
    """Return the table at ``offset``, and the offset after it."""
    return _decode_table(encoded, offset, 0)


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """Return the value at ``offset``, which begins with its type, and the offset after it."""
    return _decode(encoded, offset, 0)


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Append the encoded ``value`` to ``pieces``, and return its length in bytes."""
    if isinstance(value, RawValue):
        pieces.append(value.encoded)
        return len(value.encoded)
    if isinstance(value, float):
        pieces.append(struct.pack(">cd", _DOUBLE, value))
        return 9
    return _pika_encode(pieces, value)


def _decode_table(encoded: bytes, offset: int, depth: int) -> tuple[dict[str | bytes, Any], int]:
    (length,) = _length_at(encoded, offset)
    offset += 4
    end = offset + length
    table: dict[str | bytes, Any] = {}
    while offset < end:
        key, offset = pika.data.decode_short_string(encoded, offset)
        table[key], offset = _decode(encoded, offset, depth + 1)
    return table, offset


def _decode_array(encoded: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    (length,) = _length_at(encoded, offset)
    offset += 4
    end = offset + length
    array: list[Any] = []
    while offset < end:
        value, offset = _decode(encoded, offset, depth + 1)
        array.append(value)
    return array, offset


def _decode(encoded: bytes, offset: int, depth: int) -> tuple[Any, int]:
    kind = encoded[offset : offset + 1]
    if kind == _TEXT:
        # A shortcut: pika would do the same after comparing a dozen other types.
        (length,) = _length_at(encoded, offset + 1)
        end = offset + 5 + length
        text = encoded[offset + 5 : end]
        try:
            return text.decode(), end
        except UnicodeDecodeError:
            return text, end
    if kind in (_TABLE, _ARRAY):
        if depth > DEPTH_LIMIT:
            (length,) = _length_at(encoded, offset + 1)
            end = offset + 5 + length
            return RawValue(encoded[offset:end]), end
        decode = _decode_table if kind == _TABLE else _decode_array
        return decode(encoded, offset + 1, depth)
    if kind == _FLOAT:
        return struct.unpack_from(">f", encoded, offset + 1)[0], offset + 5
    if kind == _DOUBLE:
        return struct.unpack_from(">d", encoded, offset + 1)[0], offset + 9
    if kind == _TIME:
        try:
            return _pika_decode(encoded, offset)
        except (ValueError, OverflowError, OSError):
            return RawValue(encoded[offset : offset + 9]), offset + 9
    return _pika_decode(encoded, offset)
