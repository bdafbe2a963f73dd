# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all models of configuration files, which reports every fault at once.

``Table`` is the base of the models of the configuration and of the mapping. Plain pydantic stops at the first layer of
faults, and its errors repeat the invalid values, which may be secrets. A Table also calls ``combined_faults`` for
faults that involve several keys, even if there are other faults. Its errors never contain a value.
"""

from __future__ import annotations

import difflib
import enum
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from omps_worker.common.errors import Fault

if TYPE_CHECKING:
    from pydantic import ModelWrapValidatorHandler
    from typing_extensions import Self

Location = tuple[str | int, ...]
"""A place in a file: keys and list indexes, outermost first."""

_PLAIN = {
    "string_type": "must be text (in quotes)",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "model_attributes_type": "must be a table of keys and values",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be one of {expected}",
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KEY_LIMIT = 80


class Lenience(enum.IntEnum):
    """Which faults of environment variables and of other files a reading ignores."""

    NONE = 0
    ABSENT = 1
    """Ignore that they do not exist."""
    UNUSABLE = 2
    """Ignore all their faults."""


@dataclass(frozen=True)
class Reading:
    """The context for checking a file."""

    directory: Path = Path()
    """The directory that relative paths in the file refer to."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    api: bool = False
    """Whether the file is read for the REST API: broker, mapping and tokens are optional, because clients send tokens.
    """
    organizations: Collection[str] | None = None
    """The names of the configured organizations; None: names are not checked."""
    catalogs: Collection[str] | None = None
    """The names of the configured catalogs; None: names are not checked."""
    lenience: Lenience = Lenience.NONE
    """Other than NONE only if the caller reports these faults separately, or checks the mapping separately."""

    def counts_as_fault(self, *, absent: bool) -> bool:
        """Return whether a variable or file that is ``absent``, or otherwise unusable, counts as a fault."""
        return self.lenience < (Lenience.ABSENT if absent else Lenience.UNUSABLE)

    @classmethod
    def of(cls, info: ValidationInfo) -> Reading:
        """Return the Reading of a validation, or one for the process's own environment if it has none."""
        return info.context if isinstance(info.context, cls) else cls()


class Table(BaseModel):
    """A table of keys. Unknown keys are faults, values are immutable, secrets are not shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def combined_faults(cls, _table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Yield the faults that involve more than one key: the place, relative to this table, and the reason.

        The table holds the values as written, which may be of any type.
        """
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _every_fault(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        found: list[tuple[Location, str]] = []
        table: Self | None = None
        try:
            table = handler(data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            found.extend((each["loc"], cls._reason(each)) for each in details if not _only_echoes(each, details))
        if isinstance(data, Mapping):
            found.extend(cls.combined_faults(data, Reading.of(info)))
        if table is None or found:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [_fault(location, reason) for location, reason in dict.fromkeys(found)],
                hide_input=True,
            )
        return table

    @classmethod
    def _reason(cls, detail: ErrorDetails) -> str:
        location = detail["loc"]
        if len(location) == 1 and detail["type"] == "extra_forbidden":
            return unknown_key(str(location[0]), cls.keys())
        if len(location) == 1 and detail["type"] == "missing":
            meaning = next(
                (known.description for name, known in cls.model_fields.items() if location[0] in (name, known.alias)),
                None,
            )
            return f"is missing. {meaning}" if meaning else "is missing"
        return plain_reason(detail)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys of this table as they are written."""
        return [known.alias or name for name, known in cls.model_fields.items()]


def _only_echoes(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Return whether a list only counts as too short because its invalid entries were not counted."""
    location = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(location) and other["loc"][: len(location)] == location for other in details
    )


def _fault(location: Location, reason: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("fault", "{reason}", {"reason": reason}), loc=location, input=None)


def plain_reason(detail: ErrorDetails) -> str:
    """Return the reason for a fault that pydantic found, without the value."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "fault":
        return str(context["reason"])
    if kind == "value_error":
        return str(context["error"])
    if kind in _PLAIN:
        return _PLAIN[kind].format(**context)
    return detail["msg"]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Return the reason for rejecting ``key``, with the known key that was probably meant."""
    close = difflib.get_close_matches(key.lower(), known, n=1)
    if close:
        return f"is not a known key; did you mean {close[0]}?"
    return f"is not a known key; the known keys are {', '.join(sorted(known))}"


def dotted(location: Location) -> str:
    """Return ``location`` as TOML writes it: ``consumer_config.koji.timeout``, ``bindings[0].queue``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if len(part) <= _KEY_LIMIT else part[: _KEY_LIMIT - 1] + "…"
            shown = shown if _BARE_KEY.fullmatch(shown) else json.dumps(shown, ensure_ascii=not shown.isprintable())
            text += f".{shown}" if text else shown
    return text


def faults_of(error: ValidationError, file: str) -> list[Fault]:
    """Return every fault in ``error`` as faults of ``file``."""
    return [Fault(file, dotted(detail["loc"]), plain_reason(detail)) for detail in error.errors(include_url=False)]
