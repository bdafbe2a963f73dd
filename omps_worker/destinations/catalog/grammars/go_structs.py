# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON decoded into structs as Go's encoding/json does, for the part of a CSV that a catalog holds.

Go matches the keys of a struct whatever their case, drops those that it does not know, takes null for "not there", and
refuses a value of another type. Encoded again, fields with ``omitempty`` disappear if they are empty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omps_worker.destinations.catalog.grammars.go_yaml import json_value
from omps_worker.manifests.operator_manifests import described


class Mismatch(ValueError):
    """A value is of another type than Go's struct has; the message is a phrase that says where and what."""


_EXPONENTIAL = 6
"""From which power of ten on Go writes floats with an exponent."""

Decoder = Callable[[Any, str], Any]
"""Decodes a value that is not null; the second argument is where it stands, for messages."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct: how it is decoded, what stands for nothing, and whether it is written when it is empty."""

    decode: Decoder
    zero: Callable[[], Any]
    omit_empty: bool = True


def fold(key: str) -> str:
    """Return ``key`` as Go compares keys: letters of either case are equal."""
    return key.casefold() if key.isascii() else key.replace("\u212a", "k").replace("\u017f", "s").lower()


def text(value: Any, where: str) -> str:
    """Decode text."""
    if not isinstance(value, str):
        raise Mismatch(f"{where} must be text, but is {described(value)}")
    return value


def loose_text(value: Any, where: str) -> str:
    """Decode text from YAML that opm reads straight into a struct: numbers and booleans become text there."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _single_precision(value)
    return str(value) if isinstance(value, int) else text(value, where)


def _single_precision(value: float) -> str:
    """Return the shortest text that is ``value`` as a float of 32 bits, which is how the YAML library writes it."""
    try:
        wanted = struct.pack("<f", value)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    shortest = next(each for digits in range(17) if struct.pack("<f", float(each := f"{value:.{digits}e}")) == wanted)
    mantissa, _, exponent = shortest.partition("e")
    if not -4 <= int(exponent) < _EXPONENTIAL:
        return shortest
    digits = len(mantissa.strip("-").replace(".", ""))
    return f"{float(shortest):.{max(digits - 1 - int(exponent), 0)}f}"


def boolean(value: Any, where: str) -> bool:
    """Decode a boolean."""
    if not isinstance(value, bool):
        raise Mismatch(f"{where} must be true or false, but is {described(value)}")
    return value


def int32(value: Any, where: str) -> int:
    """Decode an integer of 32 bits."""
    return integer(value, where, 32)


def integer(value: Any, where: str, bits: int = 64) -> int:
    """Decode an integer of so many bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise Mismatch(f"{where} must be an integer of {bits} bits")
    return value


def raw(value: Any, where: str) -> Any:
    """Keep JSON as it is. Go keeps null too, where it stands."""
    try:
        return json_value(value)
    except ValueError as fault:
        raise Mismatch(f"{where}: {fault}") from None


def texts(value: Any, where: str) -> dict[str, str]:
    """Decode a mapping of text to text, in which null is an empty text."""
    mapping = as_mapping(value, where)
    return {
        key: "" if inner is None else text(inner, f"{where}.{key}") for key, inner in raw_keys(mapping, where).items()
    }


def listed(decode: Decoder, zero: Callable[[], Any]) -> Decoder:
    """Make a decoder of lists, in which null is the zero value."""

    def decode_list(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(f"{where} must be a list, but is {described(value)}")
        return [zero() if inner is None else decode(inner, f"{where}[{index}]") for index, inner in enumerate(value)]

    return decode_list


class Struct:
    """A decoder of one kind of struct. ``exact``: keys count only as they are written, as for Kubernetes itself."""

    def __init__(self, fields: Mapping[str, Field], exact: bool = False) -> None:
        self._fields = fields
        self._folded: Callable[[str], str] = str if exact else fold
        self._by_fold = {self._folded(name): name for name in fields}

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        """Decode ``value`` and return what Go encodes again. Raises Mismatch."""
        decoded = self.decoded(value, where)
        return {
            name: decoded[name]
            for name, field in self._fields.items()
            if not field.omit_empty or (name in decoded and (field.decode is raw or decoded[name]))
        }

    def decoded(self, value: Any, where: str) -> dict[str, Any]:
        """Return the fields that ``value`` has, and the zero values of those that are always written."""
        mapping = raw_keys(as_mapping(value, where), where)
        fields = {name: field.zero() for name, field in self._fields.items() if not field.omit_empty}
        # opm has the keys sorted when it decodes them; of several that match, the last one counts.
        for key in sorted(mapping):
            name = self._by_fold.get(self._folded(key))
            if name is None:
                continue
            field, inner = self._fields[name], mapping[key]
            if inner is not None or field.decode is raw:
                fields[name] = field.decode(inner, f"{where}.{name}" if where else name)
        return fields

    def zero(self) -> dict[str, Any]:
        """Return what Go encodes for a struct that nothing was decoded into."""
        return self({}, "")


def as_mapping(value: Any, where: str) -> dict[Any, Any]:
    """Return ``value`` if it is a mapping, an empty one for null. Raises Mismatch."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Mismatch(f"{where or 'it'} must be a mapping, but is {described(value)}")
    return value


def raw_keys(mapping: Mapping[Any, Any], where: str) -> Mapping[str, Any]:
    """Return ``mapping`` with its keys as text, as JSON has them. Raises Mismatch."""
    if all(type(key) is str for key in mapping):
        return mapping
    try:
        return {next(iter(json_value({key: None}))): value for key, value in mapping.items()}
    except ValueError as fault:
        raise Mismatch(f"{where}: {fault}") from None


TEXT = Field(text, str)
LOOSE_TEXT = Field(loose_text, str, omit_empty=False)
ALWAYS_TEXT = Field(text, str, omit_empty=False)
BOOLEAN = Field(boolean, bool, omit_empty=False)
NUMBER = Field(int32, int)
RAW = Field(raw, lambda: None)
TEXTS = Field(texts, dict)
LIST_OF_TEXT = Field(listed(text, str), list)


def structs(struct: Struct) -> Field:
    """Make a field that holds a list of ``struct``."""
    return Field(listed(struct, struct.zero), list)


def one(struct: Struct) -> Field:
    """Make a field that holds a ``struct``, which Go writes even if it is empty."""
    return Field(struct, struct.zero, omit_empty=False)
