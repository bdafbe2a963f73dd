# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging to standard error: one line for each record, as text for people or as JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

from omps_worker.common.text import one_line

TEXT, JSON = "text", "json"

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOISY = ("pika", "urllib3", "requests", "koji", "operatorcourier", "fedora_messaging")


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line: time, level, logger, message, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({key: value for key, value in vars(record).items() if key not in _PLAIN})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record as time, level, logger, the request id if there is one, and the message on one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``, followed by its traceback if there is one."""
        text = one_line(record.getMessage())
        about = getattr(record, "request_id", None)
        if about is not None:
            text = f"[{about}] {text}"
        plain = logging.makeLogRecord({**vars(record), "args": None, "msg": text})
        return super().format(plain)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback; control characters are replaced, because its lines may quote texts from outside."""
        return "\n".join(one_line(line.expandtabs()) for line in super().formatException(ei).split("\n"))


def set_up(log_format: str, level: str) -> None:
    """Send the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It logs a traceback if a peer sends invalid headers; the caller reports that in one line.
    logging.getLogger("urllib3.connection").setLevel(logging.CRITICAL)
