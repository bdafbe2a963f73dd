# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoder that turns the bytes of a bus message into a build event, or into the reason to ignore the message.

Build messages come in two dialects. Both use one topic or one message type for every change:

* Fedora's (the hub plugin koji-fedoramessaging): the build's fields are in the body itself. There is no NVR and no
  ``extra``.
* Koji's own (the hub plugin protonmsg): ``{"attribute", "old", "new", "info": {the build}}``, and, when a draft is
  promoted, ``{"draft_release", "target_release", "build": {the build}, "user"}``. Brokers and bridges may wrap the
  message on its way: in ``{"topic", "headers", "msg"}``, in a JSON string, in an AMQP 1.0 section (RabbitMQ's AMQP 1.0
  plugin leaves it so), or in gzip.

The decoder reads only what it needs, so unknown keys, missing keys and odd values elsewhere do no harm. All input is
untrusted until Koji has confirmed it: sizes are limited, unprintable text is treated as unknown, and nothing but
MessageError is raised.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from omps_worker.common import times
from omps_worker.common.errors import MessageError
from omps_worker.common.json_text import DEPTH_LIMIT, TooDeep, TooMany, read_json
from omps_worker.common.model import BuildEvent, BuildState, Ignored

BODY_LIMIT = 4 * 1024 * 1024
"""The largest body, in bytes, before and after decompression."""

TEXT_LIMIT = 512
"""The longest name, NVR, owner or target, in characters; longer ones count as unknown."""

ID_LIMIT = 2**31 - 1
"""The largest build id: Koji stores ids as PostgreSQL's ``integer``."""

NOT_A_BUILD_MESSAGE = "not_a_build_message"
"""Reason to ignore: JSON of another kind, such as a tag or a task message."""
NOT_A_STATE_CHANGE = "not_a_state_change"
"""Reason to ignore: another attribute of a build changed."""
NOT_COMPLETE = "not_complete"
"""Reason to ignore: the build's new state is not COMPLETE."""
DRAFT_BUILD = "draft_build"
"""Reason to ignore: the build is a draft, which is not published before it is promoted."""
OTHER_INSTANCE = "other_instance"
"""Reason to ignore: the message names a Koji instance other than the configured one."""
REASONS = (NOT_A_BUILD_MESSAGE, NOT_A_STATE_CHANGE, NOT_COMPLETE, DRAFT_BUILD, OTHER_INSTANCE)
"""All reasons that ``decode`` gives."""

MESSAGE_ID_NAMESPACE = uuid.UUID("6f6a6ac8-3a1c-4e52-9d0e-5a3f1f0f6a4b")
"""The uuid5 namespace of ids for messages that came without an id.

The uuid5 name is ``build:<build id>`` if a build id is known, else ``body:<hex sha256 of the body>``.
"""

_CONTAINERS = 250_000
"""The largest number of objects and arrays in a body: they take fifty times as much memory as their text."""

_WRAPPINGS = 8
"""The number of ``msg`` and JSON string layers that are removed; real messages have two or three."""

_SECTIONS = 256
"""The number of AMQP 1.0 sections that are read from one message; real messages have one to seven."""

_COMPLETE, _COMPLETE_NAME = BuildState.COMPLETE.value, BuildState.COMPLETE.name
_NVR = re.compile(r".+-[^-]+-[^-]+")
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"


def decode(
    body: bytes,
    *,
    headers: Mapping[str, Any] | None = None,
    content_type: str | None = None,  # noqa: ARG001  plugins and bridges set it to anything
    content_encoding: str | None = None,
    message_type: str | None = None,  # noqa: ARG001  "amqp-1.0", or not, whatever the body is
    topic: str = "",
    instance: str | None = None,
) -> BuildEvent | Ignored:
    """Return the complete build that the message announces, or why the message is to be ignored.

    ``headers``, ``content_type``, ``content_encoding`` and ``message_type`` (the property ``type``) are those of the
    AMQP 0-9-1 message; ``topic`` is its routing key. These labels are hints only: gzip and AMQP 1.0 sections are
    recognised by their first bytes, whatever the properties say. ``instance`` is the name of the wanted Koji instance;
    messages that name another one are ignored. None accepts all.

    Only ``attribute == "state"`` with ``new`` 1 or ``"COMPLETE"``, and the promotion of a draft, become an event. All
    other JSON is Ignored, with one of REASONS and with the topic as detail.

    Raises MessageError, a permanent failure, if the body is too large, not JSON or nested too deeply. Raises it too if
    a complete build is named neither by a build id (a positive integer, or its decimal digits) nor by an NVR nor by
    name, version and release. One valid way to name the build is enough.
    """
    document = _unwrapped(document_in(body, content_encoding))
    if not isinstance(document, dict):
        return Ignored(NOT_A_BUILD_MESSAGE, topic)
    if "attribute" not in document:
        if not _is_promotion(document):
            return Ignored(NOT_A_BUILD_MESSAGE, topic)
        new, document = document["build"].get("state"), {"info": document["build"]}
    elif document["attribute"] != "state":
        return Ignored(NOT_A_STATE_CHANGE, topic)
    else:
        new = document.get("new")
    if (new == _COMPLETE and new is not True) or new == _COMPLETE_NAME:
        named_instance = text_or_none(document.get("instance"))
        if instance is not None and named_instance not in (None, instance):
            return Ignored(OTHER_INSTANCE, topic)
        return _event(document, headers or {}) or Ignored(DRAFT_BUILD, topic)
    if isinstance(new, str) and new not in BuildState.__members__:
        return Ignored(NOT_A_BUILD_MESSAGE, topic)
    return Ignored(NOT_COMPLETE, topic)


def as_draft(release: str, build_id: int) -> str:
    """Return the release, or NVR, of a draft build; ``release`` is the one that the build has after its promotion."""
    return f"{release},draft_{build_id}"


def message_id_for(event: BuildEvent | None, body: bytes) -> str:
    """Return the id for a message that came without one: always the same for the same build, or the same body.

    Koji's own plugin sends no message id, and a bridge may send a message twice.
    """
    if event is not None and event.build_id is not None:
        return str(uuid.uuid5(MESSAGE_ID_NAMESPACE, f"build:{event.build_id}"))
    return str(uuid.uuid5(MESSAGE_ID_NAMESPACE, f"body:{hashlib.sha256(body).hexdigest()}"))


def _is_promotion(document: dict[str, Any]) -> bool:
    return (
        isinstance(document.get("build"), dict)
        and isinstance(document.get("draft_release"), str)
        and isinstance(document.get("target_release"), str)
    )


def _event(document: dict[str, Any], headers: Mapping[str, Any]) -> BuildEvent | None:
    """Return the complete build that the message names; None if it is a draft. Raises MessageError if it names none."""
    info = document.get("info")
    if not isinstance(info, dict):
        info = {}
    build = {**document, **info}
    build_id = _build_id(build.get("build_id"))
    if build_id is None:
        build_id = _build_id(info.get("id"))
    nvr = _nvr(build.get("nvr"))
    name, version, release = _name_version_release(build)
    if nvr is None and name and version and release:
        nvr = f"{name}-{version}-{release}"
    if nvr is None and build_id is None:
        name, version, release = _name_version_release(headers)
        if not (name and version and release):
            raise MessageError(
                "The message says that a build is complete but does not name the build: it has no build id (a positive "
                f"integer up to {ID_LIMIT}), no NVR, and no name, version and release."
            )
        nvr = f"{name}-{version}-{release}"
    if name is None and nvr is not None:
        name, version, release = nvr.rsplit("-", 2)
    # Fedora's dialect has no field that says whether the build is a draft.
    if build.get("draft", build_id is not None and (release or "").endswith(as_draft("", build_id))) is True:
        return None
    return BuildEvent(
        build_id=build_id,
        nvr=nvr,
        name=name,
        version=version,
        release=release,
        owner=text_or_none(build.get("owner_name")) or text_or_none(build.get("owner")),
        target=_target(build),
        completed_at=_time(build.get("completion_time")) or _time(build.get("completion_ts")),
    )


def _build_id(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= 10 and value.isascii() and value.isdecimal():
        value = int(value)
    if type(value) is int and 0 < value <= ID_LIMIT:
        return value
    return None


def text_or_none(value: Any) -> str | None:
    """Return ``value`` if it is text that can be logged, matched and passed on unchanged; else None."""
    if isinstance(value, str) and len(value) <= TEXT_LIMIT and value.isprintable() and value.strip():
        return value
    return None


def _nvr(value: Any) -> str | None:
    nvr = text_or_none(value)
    return nvr if nvr is not None and _NVR.fullmatch(nvr) else None


def _name_version_release(build: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Return name, version and release, each None if unknown. A version or release with a dash counts as unknown."""
    version, release = text_or_none(build.get("version")), text_or_none(build.get("release"))
    return (
        text_or_none(build.get("name")) or text_or_none(build.get("package_name")),
        None if version is None or "-" in version else version,
        None if release is None or "-" in release else release,
    )


def _target(build: Mapping[str, Any]) -> str | None:
    """Return the build target: the second parameter of the task that made the build."""
    task = build.get("task")
    for request in (build.get("request"), task.get("request") if isinstance(task, dict) else None):
        if isinstance(request, list) and len(request) > 1:
            return text_or_none(request[1])
    return None


def _time(value: Any) -> datetime | None:
    """Parse ISO 8601 with ``T`` or a space, or seconds since 1970. A time without a zone is UTC, as in Koji."""
    try:
        if isinstance(value, str):
            return times.parse_time(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def document_in(body: bytes, content_encoding: str | None = None) -> Any:
    """Return the JSON document in ``body``, which may be wrapped in gzip and AMQP 1.0. Raises MessageError."""
    if len(body) > BODY_LIMIT:
        raise _too_large()
    if body[:2] == _GZIP_MAGIC:
        body = _gunzipped(body)
    if body[:1] == b"\0":
        body = _amqp10_content(body)
    if body.startswith(_UTF8_MARK):
        body = body[len(_UTF8_MARK) :]
    try:
        return _loads(body.decode())
    except UnicodeDecodeError:
        label = f"; its content encoding says {content_encoding[:40]!r}" if isinstance(content_encoding, str) else ""
        raise MessageError(f"The message's body is not UTF-8{label}.") from None


def _loads(text: str) -> Any:
    """Parse one JSON document. If a key occurs twice, the last value counts. A number that is too long becomes None."""
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno} column {error.colno}" if text.strip() else "it is empty"
        raise MessageError(f"The message's body is not JSON: {reason}.") from None
    except TooDeep:
        raise MessageError(f"The message's body is nested too deeply: more than {DEPTH_LIMIT} levels.") from None
    except TooMany:
        raise MessageError(f"The message's body holds more than {_CONTAINERS} objects and arrays.") from None


def _parsed(text: str) -> Any:
    try:
        return read_json(text, containers=_CONTAINERS)
    except (json.JSONDecodeError, TooDeep, TooMany):
        raise
    except ValueError:  # an integer with more digits than Python converts
        return read_json(text, containers=_CONTAINERS, parse_int=_int_or_none)


def _int_or_none(digits: str) -> int | None:
    return int(digits) if len(digits) < 100 else None


def _unwrapped(document: Any) -> Any:
    """Return the document inside JSON strings and the ``{topic, headers, msg}`` of bridges."""
    for _ in range(_WRAPPINGS):
        if isinstance(document, dict):
            if "msg" not in document or "attribute" in document:
                return document
            document = document["msg"]
        elif isinstance(document, str) and document.lstrip()[:1] in ("{", '"'):
            document = _loads(document)
        else:
            return document
    return None


def _gunzipped(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
    try:
        content = inflater.decompress(body, BODY_LIMIT + 1)
    except zlib.error:
        raise MessageError("The message's body is damaged gzip.") from None
    if len(content) > BODY_LIMIT:
        raise _too_large()
    if not inflater.eof or inflater.unused_data:
        raise MessageError("The message's body is gzip that is cut off, or that has more than one member.")
    return content


def _too_large() -> MessageError:
    return MessageError(f"The message's body is larger than {BODY_LIMIT} bytes.")


# AMQP 1.0, part 1.6 (types) and part 3.2 (sections of a message). A section is
# 0x00, its number as ulong (0x53 and one byte, or 0x80 and eight), a constructor byte, a size and the content.
_AMQP10_DATA, _AMQP10_VALUE, _AMQP10_LAST = 0x75, 0x77, 0x78
_AMQP10_SIZES = {
    **dict.fromkeys((0xA0, 0xA1, 0xA3, 0xC0, 0xC1, 0xE0), 1),  # binary, string, symbol, list, map, array
    **dict.fromkeys((0xB0, 0xB1, 0xB3, 0xD0, 0xD1, 0xF0), 4),
    **dict.fromkeys((0x40, 0x45), 0),  # null, the empty list
}
_AMQP10_TEXTS = (0xA0, 0xA1, 0xA3, 0xB0, 0xB1, 0xB3)


def _amqp10_content(body: bytes) -> bytes:
    """Return the content of the AMQP 1.0 body sections: one text, or the data sections joined."""
    pieces = []
    for section, constructor, content in _amqp10_sections(body):
        if section not in (_AMQP10_DATA, _AMQP10_VALUE):
            continue
        if constructor not in _AMQP10_TEXTS:
            raise MessageError(f"The message's AMQP 1.0 body is of type 0x{constructor:02x}; text was expected.")
        pieces.append(content)
    return b"".join(pieces)


def _amqp10_sections(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    position = count = 0
    try:
        while position < len(body):
            count += 1
            if body[position : position + 2] == b"\x00\x53":
                section, position = body[position + 2], position + 3
            elif body[position : position + 2] == b"\x00\x80" and position + 10 <= len(body):
                section, position = int.from_bytes(body[position + 2 : position + 10], "big"), position + 10
            else:
                raise LookupError
            constructor = body[position]
            width = _AMQP10_SIZES[constructor]
            start = position + 1 + width
            size = int.from_bytes(body[position + 1 : start], "big")
            position = start + size
            if not 0x70 <= section <= _AMQP10_LAST or position > len(body) or count > _SECTIONS:
                raise LookupError
            yield section, constructor, body[start:position]
    except LookupError:
        raise MessageError("The message's body is neither JSON nor complete AMQP 1.0 sections.") from None
