# SPDX-License-Identifier: GPL-3.0-or-later
"""What an exception that is caught keeps alive, and how to let go of it.

An exception refers to every frame that it passed, and they to all that was in hand there: archives, manifests,
bodies of messages. One of these frames most likely refers to the exception, be it in a library, and such a
circle lasts until a garbage collection, which may come late.
"""

from __future__ import annotations

import traceback


def let_go(error: BaseException) -> None:
    """End the way of ``error``: take its traceback from it, and what it came from.

    The frames that are finished forget their variables, too. Log the traceback before.
    """
    for one in _sources(error):
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = one.__cause__ = one.__context__ = None


def empty_frames(error: BaseException) -> None:
    """Have the finished frames that ``error`` passed forget their variables, where the error itself goes on."""
    for one in _sources(error):
        traceback.clear_frames(one.__traceback__)


def _sources(error: BaseException) -> list[BaseException]:
    """``error``, and all that it came from."""
    found = [error]
    for one in found:
        found += [each for each in (one.__cause__, one.__context__) if each is not None and each not in found]
    return found
