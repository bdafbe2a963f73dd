# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and sizes as people write them: ``"10s"``, ``"1m"``, ``"20MiB"``, or plain numbers."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
"""The length of each unit of a duration in seconds."""

BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
"""The size of each unit in bytes: decimal for kB, MB, GB and binary for KiB, MiB, GiB."""

LONGEST = 366 * 86400
"""The longest accepted duration in seconds: one year. Longer ones are typing errors, and overflow timers."""

LARGEST = 2**40
"""The largest accepted size in bytes: 1 TiB."""

_AMOUNT = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(_AMOUNT + "(ms|s|m|h|d)")
_SIZE = re.compile(_AMOUNT + "([kKMG]i?B|B)")
_DURATION_HELP = 'must be a duration such as "500ms", "10s", "1m" or "1h", or a number of seconds'
_SIZE_HELP = 'must be a size such as "20MiB" or "512KiB", or a whole number of bytes'


class Duration(float):
    """A length of time: a float of seconds that remembers how it was written.

    >>> Duration.parse("1m").seconds, Duration.parse("1m").text
    (60.0, '1m')
    """

    text: str
    """The duration as written, which is part of the names of retry queues."""

    def __new__(cls, seconds: float, text: str) -> Duration:
        """Create a duration; use ``parse`` for text that a user wrote."""
        duration = super().__new__(cls, seconds)
        duration.text = text
        return duration

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Return a duration from a text with a unit, or from a number of seconds.

        Raises ValueError with what to write instead. The message does not repeat the value.
        """
        if isinstance(value, Duration):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(_DURATION_HELP)
        if isinstance(value, str):
            match = _DURATION.fullmatch(value)
            if not match:
                raise ValueError(_DURATION_HELP)
            seconds = float(Decimal(match[1]) * SECONDS[match[2]])
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(_DURATION_HELP)
        elif value < 0:
            raise ValueError("must not be negative")
        else:
            seconds = float(min(value, LONGEST + 1))
        if seconds > LONGEST:
            raise ValueError("is longer than a year")
        return cls(seconds, str(value))

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return float(self)

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        return self.seconds, self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda duration: duration.text),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"},
                {"type": "number", "minimum": 0},
            ],
            "examples": ["10s", "1m", "1h", 30],
        }


def _positive(duration: Duration) -> Duration:
    if duration <= 0:
        raise ValueError("must be longer than zero")
    return duration


PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
"""A duration that must be longer than zero."""


def parse_size(value: object) -> int:
    """Return the number of bytes from a text with a unit, or from a whole number of bytes.

    Raises ValueError with what to write instead. The message does not repeat the value.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(_SIZE_HELP)
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if not match:
            raise ValueError(_SIZE_HELP)
        amount = Decimal(match[1]) * BYTES[match[2]] if match[2] in BYTES else None
        if amount is None:
            raise ValueError(_SIZE_HELP)
        if amount != amount.to_integral_value():
            raise ValueError("must be a whole number of bytes")
        size = int(amount)
    else:
        size = value
    if size < 1:
        raise ValueError("must be at least one byte")
    if size > LARGEST:
        raise ValueError("is larger than a terabyte")
    return size


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(B|kB|KB|MB|GB|KiB|MiB|GiB)$"},
                {"type": "integer", "minimum": 1},
            ],
            "examples": ["20MiB", 1048576],
        }
    ),
]
"""A number of bytes, at least one."""
