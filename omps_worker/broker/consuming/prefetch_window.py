# SPDX-License-Identifier: GPL-3.0-or-later
"""``PrefetchWindow``: how many messages the broker may deliver ahead, so that a suspect is processed alone. No I/O.

::

              an ordinary message came
      narrow ─────────────────────────► wide
     one message                  as many as configured
      ▲  │                              │
      │  │ a suspect came               │ a suspect came: no more are taken,
      │  ▼                              ▼ messages in flight are finished first
      └─ alone ◄────────────────────────┘
      its work is over

Every connection to the broker begins narrow: the messages that killed workers come back at the head of the queue, and
the worker that receives one of them should have nothing else in flight. With a ``prefetch`` of one, narrow and wide are
the same.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Message = TypeVar("Message")


class PrefetchWindow(Generic[Message]):
    """The state of the window; use it in one thread.

    Subscribe with ``wanted``, and report what happens with the other methods.
    """

    def __init__(self, prefetch: int) -> None:
        self._full = prefetch
        self._width = 1
        self._suspect: Message | None = None
        self._working = False
        self._fills_the_slot = False

    @property
    def wanted(self) -> int:
        """The number of un-acked messages to subscribe with; 0: do not subscribe."""
        if self._suspect is None and not self._working:
            return self._width
        # A suspect that fills the only slot keeps out all other messages.
        return 1 if self._fills_the_slot else 0

    def open(self, *, working: bool) -> None:
        """Begin a new connection.

        ``working``: whether a suspect of the previous connection is still being processed; the broker redelivers it.
        """
        self._width, self._suspect, self._working, self._fills_the_slot = 1, None, working, False

    def ordinary(self) -> None:
        """Report a message that may be processed alongside others."""
        if self._suspect is None and not self._working:
            self._width = self._full

    def suspect(self, message: Message, subscribed: int) -> bool:
        """Report a suspect; return whether the caller keeps it until its turn.

        If not, the caller returns it to the broker. ``subscribed`` is the size of the subscription that delivered it.
        Return it only once the subscription has the ``wanted`` size; otherwise it is delivered again at once.
        """
        if self._suspect is not None or self._working:
            return False
        self._suspect, self._fills_the_slot = message, subscribed == 1
        return True

    def idle(self) -> None:
        """Report that nothing is being processed: the work on a suspect is over."""
        if self._working:
            self._working, self._fills_the_slot, self._width = False, False, 1

    def begin(self) -> Message | None:
        """Return the suspect to begin now, or None. Call it when idle, with a subscription of the ``wanted`` size."""
        suspect, self._suspect = self._suspect, None
        self._working = suspect is not None
        return suspect

    def close(self) -> Message | None:
        """Stop: return the suspect that waits for its turn, or None. The caller returns it to the broker."""
        suspect, self._suspect = self._suspect, None
        return suspect
