# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions of Python's ``re``, with a limit in time that holds.

Nothing interrupts a regular expression that tries one way after another: it holds Python's global lock, so that no
other thread goes on, and signals wait. So it runs in a process of its own, which takes some 30 ms to begin. What
counts is the processor time of that process: on a busy machine the same manifests get the same verdict.
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
"""Processor time that all replacements in one operator may take; a megabyte takes a hundredth of that."""

PATIENCE_SECONDS = 120.0
"""How long that may be by the clock. It is more only where a machine is overloaded."""

MEMORY = 384 * 2**20
"""Bytes of address space that the process may have."""

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH")
"""All that it gets: it needs no secrets."""


def replace_in(directory: Path, rules: Sequence[tuple[str, str, bool]], places: int, characters: int) -> None:
    """What ``replacements.TextReplacer`` does, in a process of its own and within the limits of this module.

    Raises CannotReplace, OSError if the disk fails, StorageError where the program cannot be run, and
    ResourcesExhausted where the machine has no place for one more process, left it no time, or ended it. Of these
    only the first is final.
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
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", replacements.__file__],
            input=json.dumps(job).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,  # what a terminal tells us is not meant for it
            check=False,
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ResourcesExhausted.meant_by(error) or StorageError(
            f"The process that replaces registries cannot begin: {reason}."
        ) from None
    except subprocess.TimeoutExpired:
        raise ResourcesExhausted(
            f"Replacing registries was not done within {PATIENCE_SECONDS:g} s, having had less than {SECONDS:g} s "
            "of the processor: this machine is overloaded."
        ) from None
    if ended.returncode == -signal.SIGPROF:
        raise CannotReplace(replacements.TIME)
    if ended.returncode != 0:
        raise ResourcesExhausted(f"The process that replaces registries ended with {_told(ended.returncode)}.")
    answer = json.loads(ended.stdout)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["strerror"])
    if answer:
        raise CannotReplace(answer["kind"], answer["file"], answer["rule"])


def _told(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}, perhaps for want of memory"
