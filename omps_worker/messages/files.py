# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages read from files: fedora-messaging's dumps, other layouts, and bare bodies."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omps_worker.common.errors import MessageError
from omps_worker.common.json_text import DEPTH_LIMIT, read_json
from omps_worker.common.model import BuildEvent, Ignored
from omps_worker.messages.events import BODY_LIMIT, NOT_A_BUILD_MESSAGE, decode, document_in, text_or_none

FILE_LIMIT = 32 * 1024 * 1024
"""The largest file with one message, in bytes."""

SHORT_STRING = 255
"""The longest topic or message id, in bytes."""

DUMP_LIMIT = 192 * 1024 * 1024
"""The largest message in a dump, in bytes: the largest that RabbitMQ takes by default, plus its base64 form."""

BODY_DEPTH = DEPTH_LIMIT // 2
"""Bodies nested deeper than this are stored as bytes only, because the file around them must stay readable."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message from a file; its fields are the arguments of ``events.decode``."""

    body: bytes
    topic: str = ""
    message_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    content_encoding: str | None = None
    message_type: str | None = None
    properties: bytes | None = field(default=None, repr=False)
    """All AMQP properties in AMQP's encoding, if the file has them; ``headers`` and ``message_id`` may have been edited
    since."""
    bare: bool = field(default=False, compare=False)
    """Whether the file holds nothing but a body."""

    def decode(self, instance: str | None = None) -> BuildEvent | Ignored:
        """Decode the message; see ``events.decode``. Raises MessageError."""
        return decode(
            self.body,
            headers=self.headers,
            content_encoding=self.content_encoding,
            message_type=self.message_type,
            topic=self.topic,
            instance=instance,
        )


def from_dump(content: bytes) -> StoredMessage:
    """Return the message in a file, or in one line of a file.

    Three formats are read: fedora-messaging's dump format (``{topic, headers, id, body, …}``, as written by
    ``fedora-messaging record`` and ``failed export``), the layout ``{exchange, routing_key, properties, body}``, and a
    bare body in any form that ``decode`` takes. Raises MessageError if ``content`` is too large, nested too deeply, or
    contains damaged base64.
    """
    try:
        document = _large_document(content) if len(content) > BODY_LIMIT else document_in(content)
    except MessageError:
        if len(content) > BODY_LIMIT:
            raise
        return StoredMessage(content, bare=True)
    if not isinstance(document, dict) or "body" not in document or "attribute" in document:
        return StoredMessage(content, bare=True)
    properties = document.get("properties")
    if not isinstance(properties, dict):
        properties = {}
    amqp = document.get("amqp")
    if not isinstance(amqp, dict):
        amqp = {}
    headers = document.get("headers", properties.get("headers"))
    topic = text_or_none(document.get("topic")) or text_or_none(document.get("routing_key")) or ""
    message_id = text_or_none(document.get("id")) or text_or_none(properties.get("message_id"))
    for field_name, text in (("topic", topic), ("id", message_id or "")):
        if len(text.encode(errors="replace")) > SHORT_STRING:
            raise MessageError(
                f"The message's {field_name} has more than {SHORT_STRING} bytes, which AMQP cannot carry."
            )
    return StoredMessage(
        body=_body(document["body"], _from_base64(amqp, "body")),
        topic=topic,
        message_id=message_id,
        headers=headers if isinstance(headers, dict) else {},
        properties=_from_base64(amqp, "properties"),
    )


def from_dumps(content: bytes) -> list[StoredMessage]:
    """Return all messages in a file: one, or one per line. Raises MessageError as ``from_dump`` does."""
    try:
        document_in(content)
    except MessageError:
        lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
        if len(lines) > 1 and _is_document(lines[0][1]):
            return [_from_line(number, line) for number, line in lines]
    return [from_dump(content)]


def in_file(path: Path) -> Iterator[StoredMessage]:
    """Yield all messages in a file. The file may be larger than the memory if it holds one message per line.

    Raises MessageError, with the name of the file, if a message is damaged, or is a bare body that is about no build.
    """
    try:
        with path.open("rb") as file:
            head = file.read(BODY_LIMIT + 1)
            if len(head) <= BODY_LIMIT:
                yield from map(_checked_readable, from_dumps(head))
                return
            file.seek(0)
            number = 0
            while line := file.readline(DUMP_LIMIT + 1):
                number += 1
                if line.strip():
                    yield _from_line(number, line)
    except MessageError as error:
        raise MessageError(f"{path}: {error.message}") from None
    except OSError as error:
        raise MessageError(f"{path} cannot be read: {error.strerror}.") from None


def json_in(body: bytes, depth: int = BODY_DEPTH) -> tuple[bool, Any]:
    """Return whether ``body`` is JSON in UTF-8, nested at most ``depth`` levels deep, and the parsed value."""
    try:
        return True, read_json(body.decode(), depth=depth)
    except ValueError:
        return False, None


def _from_line(number: int, line: bytes) -> StoredMessage:
    try:
        return _checked_readable(from_dump(line))
    except MessageError as error:
        raise MessageError(f"line {number}: {error.message}") from None


def _is_document(line: bytes) -> bool:
    try:
        document_in(line)
    except MessageError:
        return False
    return True


def _checked_readable(message: StoredMessage) -> StoredMessage:
    if message.bare:
        found = message.decode()
        if isinstance(found, Ignored) and found.reason == NOT_A_BUILD_MESSAGE:
            raise MessageError(
                "It is no message about a build. Write one message a line, as `omps-worker failed export` does."
            )
    return message


def _large_document(content: bytes) -> Any:
    """Parse a dump with a large body. Raises MessageError."""
    if len(content) <= DUMP_LIMIT and content[:1] == b"{":
        is_json, document = json_in(content, DEPTH_LIMIT)
        if is_json:
            return document
    raise MessageError(f"The message is larger than {BODY_LIMIT} bytes, and is not a dump of a message.")


def _body(document: Any, original: bytes | None) -> bytes:
    """Return the body for the JSON ``document``: the ``original`` bytes if they say the same, else new ones."""
    body = json.dumps(document)
    if original is not None and body == json.dumps(json_in(original)[1]):
        return original
    return body.encode()


def _from_base64(amqp: dict[str, Any], key: str) -> bytes | None:
    value = amqp.get(key)
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise MessageError(f"The value of amqp.{key} is damaged base64.") from None


def event_named(build: str, instance: str | None = None) -> BuildEvent | Ignored:
    """Return the event for the argument ``build`` of a command: a file with a message, or an NVR.

    If a file of that name exists, it is read and decoded as by ``decode``. Raises MessageError if it cannot be.
    """
    # If a file has the name of an NVR, it was put there for this purpose.
    if not os.path.lexists(build):
        return BuildEvent(nvr=build)
    try:
        with Path(build).open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise MessageError(f"{build} cannot be read: {error.strerror}.") from None
    if len(content) > FILE_LIMIT:
        raise MessageError(f"{build} has more than {FILE_LIMIT} bytes, which is too large for a message.")
    try:
        return from_dump(content).decode(instance)
    except MessageError as error:
        raise MessageError(f"{build}: {error.message}") from None
