# SPDX-License-Identifier: GPL-3.0-or-later
"""Freeing the memory that a caught exception keeps alive.

An exception refers to every frame that it passed through, and the frames refer to their local variables: archives,
manifests, bodies of messages. Usually one of these frames, possibly in a library, also refers to the exception. Such a
cycle lasts until a garbage collection, which may come late.
"""

from __future__ import annotations

import traceback


def drop_tracebacks(error: BaseException) -> None:
    """Remove the traceback, the cause and the context from ``error`` and from the errors it came from.

    Finished frames drop their variables, too. Log the traceback before.
    """
    for each in _sources(error):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = each.__cause__ = each.__context__ = None


def empty_frames(error: BaseException) -> None:
    """Clear the variables of the finished frames of ``error``. Its traceback stays, so it can be raised further."""
    for each in _sources(error):
        traceback.clear_frames(each.__traceback__)


def _sources(error: BaseException) -> list[BaseException]:
    """Return ``error`` with all its causes and contexts."""
    found = [error]
    for each in found:
        found += [source for source in (each.__cause__, each.__context__) if source is not None and source not in found]
    return found
