# SPDX-License-Identifier: GPL-3.0-or-later
"""Find reference cycles, which only garbage collection frees."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import omps_worker

_OURS = str(Path(omps_worker.__file__).parent)
_SANDBOX = str(Path(_OURS, "sandbox"))


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable garbage collection. Objects without references are freed at once, or, in cycles, not at all."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def circles() -> list[str]:
    """Return the worker's frames and exceptions that are in reference cycles, without those of the sandbox."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return sorted({shown for each in gc.garbage if (shown := _shown(each))})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def _shown(found: object) -> str | None:
    if isinstance(found, TracebackType):
        found = found.tb_frame
    if isinstance(found, FrameType):
        file = found.f_code.co_filename
        if file.startswith(_OURS) and not file.startswith(_SANDBOX):
            return f"{Path(file).relative_to(_OURS)}:{found.f_lineno} {found.f_code.co_name}"
    elif isinstance(found, BaseException) and type(found).__module__.startswith("omps_worker"):
        return repr(found)
    return None
