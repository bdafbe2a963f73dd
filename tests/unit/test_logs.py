# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the log."""

from __future__ import annotations

import json
import logging
import sys

from omps_worker.common.logs import JsonFormatter, TextFormatter


def record(message, *args, **extra):
    made = logging.makeLogRecord({"msg": message, "args": args, "levelname": "INFO", "name": "omps_worker.x"})
    vars(made).update(extra)
    return made


def test_text_from_outside_cannot_begin_a_new_line():
    line = TextFormatter().format(record("received %s", "a\nb\x1b[2Jc\r"))
    assert line.isprintable()
    assert line.endswith("omps_worker.x: received a b [2Jc ")


def test_machines_get_one_object_a_line_with_all_that_is_known():
    line = JsonFormatter().format(record("published %s", "x\ny", nvr="etcd-1-1", seconds=1.5))
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["message"], entry["nvr"], entry["seconds"]) == ("published x\ny", "etcd-1-1", 1.5)
    assert entry["time"].endswith("+00:00")


def test_a_traceback_that_quotes_text_from_outside_moves_no_cursor():
    try:
        raise ValueError("the registry said \x1b[2J\x9b1A\r\u202e no")
    except ValueError:
        lines = TextFormatter().format(record("broke", exc_info=sys.exc_info(), exc_text=None)).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "ValueError: the registry said  [2J 1A   no"


def test_a_traceback_is_kept_in_both():
    try:
        raise ValueError("deep inside")
    except ValueError:
        made = record("broke", exc_info=sys.exc_info())
    assert "deep inside" in TextFormatter().format(made)
    assert "deep inside" in json.loads(JsonFormatter().format(made))["traceback"]
