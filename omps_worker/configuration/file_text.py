# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the text of a configuration file, or reporting why it is unusable."""

from __future__ import annotations

from pathlib import Path

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.files.regular import NOT_PLAIN, keeps_waiting

MISSING = "there is no such file"


FILE_LIMIT = 2**20
"""The size limit of a configuration file, in bytes."""


def text_of(path: Path, missing: str = MISSING) -> str:
    """Return the text of ``path``, of at most ``FILE_LIMIT`` bytes.

    Raises SettingsError. ``missing`` is the reason if there is no such file.
    """
    if keeps_waiting(path):
        raise SettingsError([Fault(str(path), "", NOT_PLAIN)])
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
        if len(data) <= FILE_LIMIT:
            return data.decode().removeprefix("\ufeff")
        fault = f"has more than {FILE_LIMIT} bytes, which is too large for a configuration"
    except FileNotFoundError:
        fault = missing
    except IsADirectoryError:
        fault = "is a directory, not a file"
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        fault = f"is not UTF-8 text (line {error.object.count(10, 0, error.start) + 1})"
    raise SettingsError([Fault(str(path), "", fault)])
