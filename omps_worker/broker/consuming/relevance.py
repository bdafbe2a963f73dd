# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding of a message just enough to see whether it is relevant.

It must be quick, because the connection's thread does it.
"""

from __future__ import annotations

import logging
from typing import Any

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.common import machine
from omps_worker.common.errors import MessageError, WorkerError, unexpected_error
from omps_worker.common.model import BuildEvent, Ignored

log = logging.getLogger(__name__)


def read(
    handler: MessageHandler, properties: BasicProperties, body: bytes, topic: str
) -> tuple[BuildEvent | None, Ignored | WorkerError | None]:
    """Decode a message, and return ``(event, verdict)``.

    ``event`` is the build, or None if the message could not be decoded or ``decode`` ignored it. ``verdict`` is
    Ignored, the error, or None if the message is to be processed. Never raises: an unexpected exception counts as an
    error of the message, which would otherwise be redelivered again and again.
    """
    event: BuildEvent | None = None
    try:
        found = handler.decode(
            body,
            headers=properties.headers,
            content_type=_text_or_none(properties.content_type),
            content_encoding=_text_or_none(properties.content_encoding),
            message_type=_text_or_none(properties.type),
            topic=topic,
        )
        if isinstance(found, Ignored):
            return None, found
        event = found
        return event, handler.dismiss(event.facts)
    except MessageError as error:
        return event, error.as_value()
    except Exception as error:
        machine.log_failure(log, error, "a message cannot be examined")
        return event, unexpected_error(error)


def _text_or_none(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else headers.text(value)
