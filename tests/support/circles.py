# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a garbage collection would free."""

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
    """No garbage is collected meanwhile: what is not referred to any more goes at once, or stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def circles() -> list[str]:
    """The frames of the worker, and its exceptions, that are in circles; the sandbox's do not count."""
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
