# SPDX-License-Identifier: GPL-3.0-or-later
"""Parked messages in fedora-messaging's dump format, written and read back without loss.

The format is JSON, ``{topic, headers, id, body, queue, priority}``, and holds less than an AMQP message: header values
have no types, the body is a JSON document, and there is no content type. An additional key, which other tools ignore,
holds the rest: ``amqp``, with ``properties`` (base64 of all properties as AMQP encodes them) and, if the body differs
from what ``json.dumps`` writes, ``body`` (base64). If ``headers``, ``id``, ``topic`` or ``body`` were edited in the
file, the edit takes precedence.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.dead_letters import message as parked_message
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.common.errors import MessageError
from omps_worker.messages.dead_letter import iso_or_none
from omps_worker.messages.files import StoredMessage, json_in


def dump(message: ParkedMessage) -> dict[str, Any]:
    """Return the message as one JSON object, which is the same for every scan."""
    properties = copy.copy(message.properties)
    # RabbitMQ sorts the headers when it delivers a message again.
    table = sorted((properties.headers or {}).items(), key=lambda item: headers.text(item[0]))
    properties.headers = {name: value for name, value in table if name not in headers.QUEUE_HEADERS}
    exact = {"properties": _base64(b"".join(properties.encode()))}
    found, body = json_in(message.body)
    if not found or json.dumps(body).encode() != message.body:
        exact["body"] = _base64(message.body)
    return {
        "topic": message.parked.topic,
        "headers": json_safe(properties.headers),
        "id": message.parked.id,
        "body": body,
        "queue": message.parked.queue,
        "priority": properties.priority,
        "amqp": exact,
    }


def restored(stored: StoredMessage, queue: str) -> ParkedMessage:
    """Return the message in a file, as if it had been parked by a worker of ``queue``.

    Raises MessageError if the content of ``amqp`` is damaged.
    """
    properties = _properties(stored)
    table = dict(properties.headers or {})
    if stored.headers != json_safe(table):
        table = dict(stored.headers)
    if stored.topic:
        table[headers.TOPIC] = stored.topic
    properties.headers = table
    if stored.message_id and stored.message_id != headers.text(properties.message_id):
        properties.message_id = stored.message_id
    return parked_message.read(properties, stored.body, queue)


def details(message: ParkedMessage) -> dict[str, Any]:
    """Return everything that is known about a parked message, as JSON: the output of ``failed show --json``."""
    delivery, properties = message.delivery, message.properties
    found, body = json_in(message.body)
    return {
        **message.parked.as_json(),
        "exchange": delivery.first_exchange,
        "findings": headers.findings(delivery.headers),
        "targets": headers.open_targets(delivery.headers),
        "replayed_at": iso_or_none(headers.moment(delivery.headers, headers.REPLAYED_AT)),
        "deaths": [
            {
                "queue": death.queue,
                "reason": death.reason,
                "count": death.count,
                "time": iso_or_none(death.time),
                "exchange": death.exchange,
                "topic": death.topic,
            }
            for death in message.deaths
        ],
        "content_type": headers.text(properties.content_type) or None,
        "content_encoding": headers.text(properties.content_encoding) or None,
        "headers": json_safe(delivery.headers),
        "body": body,
        "body_base64": None if found else _base64(message.body),
    }


def json_safe(value: Any) -> Any:
    """Return a header's value as JSON: times as ISO 8601, bytes as ``base64:…``, other unusual values as text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, Mapping):
        return {headers.text(name): json_safe(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return f"base64:{_base64(bytes(value))}"
    return str(value)


def _properties(stored: StoredMessage) -> BasicProperties:
    if stored.properties is None:
        return BasicProperties(
            content_type="application/json",
            content_encoding=stored.content_encoding,
            type=stored.message_type,
            headers=dict(stored.headers),
            message_id=stored.message_id,
        )
    try:
        properties = BasicProperties().decode(stored.properties)
        properties.encode()
    except Exception as error:
        raise MessageError(
            "The properties under the key amqp are damaged. Without that key the message can be sent."
        ) from error
    return properties


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
