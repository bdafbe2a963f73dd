# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry says when it does not do what it was asked, as text for people and without credentials.

Quay wraps its errors (``{"error": {"code", "message", "details"}}``), the reference servers do not. Quay's own API and
its image repositories have other formats again, and proxies answer in HTML. A server may also misbehave: it may repeat
a credential.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from omps_worker.common.http_client.client import Answer, printable

TEXT_LIMIT = 500
"""The number of characters of a registry's own text that an error message quotes."""

_BODY_LIMIT = 64 * 1024
_DEPTH_LIMIT = 12
_HIDDEN = "***"
_TITLE = re.compile(r"<title[^>]{0,200}>(.{1,300}?)</title", re.DOTALL | re.IGNORECASE)


def basic_credentials(authorization: SecretStr) -> tuple[str, str] | None:
    """Return user name and password from a ``basic <base64 of user:password>`` value; None for any other value."""
    scheme, _, encoded = authorization.get_secret_value().strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon and name else None


class Scrubber:
    """Removes credentials from texts that came from a server to which the credentials were sent."""

    def __init__(self, *credentials: SecretStr | None) -> None:
        parts: set[str] = set()
        for credential in credentials:
            if credential is None:
                continue
            value = credential.get_secret_value().strip()
            parts |= {value, value.partition(" ")[2].strip(), value.partition(" ")[2].strip().rstrip("=")}
            decoded = basic_credentials(credential)
            if decoded is not None:
                parts |= {":".join(decoded), decoded[1]}
        parts |= {quote(part, safe="") for part in parts}
        # Longest first: otherwise removing a part would leave the rest of a longer one.
        self._parts = sorted((part for part in parts if len(part) > 3), key=len, reverse=True)
        self._numbers = {number for part in self._parts if (number := _number(part)) is not None}

    def text(self, text: str) -> str:
        """Return ``text`` without the credentials and all parts of them that must not be shown."""
        for part in self._parts:
            text = text.replace(part, _HIDDEN)
        return text

    def json(self, value: Any, depth: int = 0) -> Any:
        """Return ``value``, parsed JSON, without the credentials, and cut where it is nested too deeply."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _HIDDEN if self._is_part(value) else value
        if depth > _DEPTH_LIMIT and isinstance(value, (dict, list)):
            return "…"
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, depth + 1) for item in value]
        return value

    def _is_part(self, number: int | float) -> bool:
        """Return whether a number reveals a credential: it contains its digits, or has the same value."""
        text = str(number)
        return any(part in text for part in self._parts) or _number(text) in self._numbers


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """A summary of an answer without credentials: one line of text, and the JSON object or {}."""

    text: str
    response: dict[str, Any]


def summary_of(answer: Answer, scrubber: Scrubber) -> AnswerSummary:
    """Return a summary of an answer. All known formats of errors are read; an HTML page is named by its title."""
    value = answer.json()
    if value is None:
        return AnswerSummary(_summary(answer, scrubber), {})
    if len(answer.body) > _BODY_LIMIT:
        # More than the details of an error may hold.
        return AnswerSummary(printable(scrubber.text(_message(value)), TEXT_LIMIT) or "no explanation", {})
    value = scrubber.json(value)
    text = printable(_message(value), TEXT_LIMIT)
    return AnswerSummary(text or "no explanation", value if isinstance(value, dict) else {})


def _message(value: Any) -> str:
    if isinstance(value, str):
        return value
    for _ in range(_DEPTH_LIMIT):
        if not isinstance(value, dict) or not isinstance(value.get("error"), dict):
            break
        value = value["error"]
    if not isinstance(value, dict):
        return ""
    if isinstance(value.get("error"), str):
        return str(value["error"])
    texts = (value.get(key) for key in ("message", "error_message", "detail", "details", "title", "code"))
    return next((text for text in texts if isinstance(text, str) and text), "")


def _summary(answer: Answer, scrubber: Scrubber) -> str:
    body = scrubber.text(answer.body[:_BODY_LIMIT].decode("utf-8", "replace"))
    title = _TITLE.search(body)
    if title is not None:
        return "a web page, “" + printable(scrubber.text(html.unescape(title[1])), 100) + "”"
    if "<" in body[:200]:
        return "a web page"
    text = printable(body, TEXT_LIMIT)
    return f"“{text}”" if text else "no explanation"
