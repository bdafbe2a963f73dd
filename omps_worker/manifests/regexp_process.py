# SPDX-License-Identifier: GPL-3.0-or-later
"""Run regular expressions of Python's ``re`` in a process with a strict time limit.

Nothing can interrupt a regular expression that backtracks: it holds Python's global lock, so other threads and signal
handlers wait. So the expressions run in a separate process, which takes about 30 ms to start. Its processor time is
limited, not the elapsed time: the same manifests get the same verdict on a busy machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from omps_worker.common.errors import ResourcesExhausted, StorageError
from omps_worker.manifests import replacements
from omps_worker.manifests.replacements import CannotReplace

SECONDS = 10.0
"""Seconds of processor time that all replacements in one operator may take. A megabyte takes a hundredth of that."""

PATIENCE_SECONDS = 120.0
"""Seconds that the process may take by the clock. It takes longer only if the machine is overloaded."""

MEMORY = 384 * 2**20
"""Bytes of address space that the process may have."""

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")
"""The environment variables that the process gets. It needs no secrets."""


def replace_in(directory: Path, rules: Sequence[tuple[str, str, bool]], places: int, characters: int) -> None:
    """Do what ``replacements.TextReplacer`` does, in a separate process and within the limits of this module.

    Raises CannotReplace if the replacements are not possible; trying again does not help. Trying again may help with
    all other errors: OSError if the disk fails, StorageError if the process cannot be started, and ResourcesExhausted
    if the machine has no room for another process, is overloaded, or ended the process.
    """
    job = {
        "directory": str(directory),
        "rules": list(rules),
        "places": places,
        "characters": characters,
        "seconds": SECONDS,
        "memory": MEMORY,
    }
    try:
        process = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", replacements.__file__],
            input=json.dumps(job).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,  # signals from a terminal are not meant for it
            check=False,
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ResourcesExhausted.meant_by(error) or StorageError(
            f"The process that replaces registries cannot be started: {reason}."
        ) from None
    except subprocess.TimeoutExpired:
        raise ResourcesExhausted(
            f"Replacing registries did not finish within {PATIENCE_SECONDS:g} s, although it had less than {SECONDS:g} "
            "s of processor time: this machine is overloaded."
        ) from None
    if process.returncode == -signal.SIGPROF:
        raise CannotReplace(replacements.TIME)
    if process.returncode != 0:
        raise ResourcesExhausted(f"The process that replaces registries ended with {_cause(process.returncode)}.")
    answer = json.loads(process.stdout)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["strerror"])
    if answer:
        raise CannotReplace(answer["kind"], answer["file"], answer["rule"])


def _cause(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}, perhaps because memory ran out"
