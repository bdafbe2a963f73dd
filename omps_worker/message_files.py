# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that were kept in files: fedora-messaging's dumps, other layouts, and bare bodies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from omps_worker.errors import MessageError
from omps_worker.events import BODY_LIMIT, decode, document_in, text_or_none
from omps_worker.model import BuildEvent, Ignored


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that was kept in a file; its fields are what ``decode`` takes."""

    body: bytes
    topic: str = ""
    message_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    content_encoding: str | None = None
    message_type: str | None = None

    def decode(self) -> BuildEvent | Ignored:
        """As ``decode``; raises MessageError."""
        return decode(
            self.body,
            headers=self.headers,
            content_encoding=self.content_encoding,
            message_type=self.message_type,
            topic=self.topic,
        )


def from_dump(content: bytes) -> StoredMessage:
    """The message that a file, or one line of it, holds.

    Read are fedora-messaging's dump format (``{topic, headers, id, body, …}``, as ``fedora-messaging
    record`` writes it), the layout ``{exchange, routing_key, properties, body}``, and a bare body in any
    form that ``decode`` takes. Raises MessageError if ``content`` is too large or nested too deeply.
    """
    try:
        document = document_in(content)
    except MessageError:
        if len(content) > BODY_LIMIT:
            raise
        return StoredMessage(content)
    if not isinstance(document, dict) or "body" not in document or "attribute" in document:
        return StoredMessage(content)
    properties = document.get("properties")
    if not isinstance(properties, dict):
        properties = {}
    headers = document.get("headers", properties.get("headers"))
    try:
        body = json.dumps(document["body"]).encode()
    except RecursionError:
        raise MessageError("The message's body is nested too deeply.") from None
    return StoredMessage(
        body=body,
        topic=text_or_none(document.get("topic")) or text_or_none(document.get("routing_key")) or "",
        message_id=text_or_none(document.get("id")) or text_or_none(properties.get("message_id")),
        headers=headers if isinstance(headers, dict) else {},
    )


def from_dumps(content: bytes) -> list[StoredMessage]:
    """Every message in a file: one, or one per line. Raises MessageError if a message is too large."""
    try:
        document_in(content)
    except MessageError:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) > 1 and all(line.lstrip()[:1] in (b"{", b'"') for line in lines):
            return [from_dump(line) for line in lines]
    return [from_dump(content)]
