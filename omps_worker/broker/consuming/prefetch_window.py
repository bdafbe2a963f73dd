# SPDX-License-Identifier: GPL-3.0-or-later
"""How many messages the broker may hand over at a time, so that a suspect is worked on alone. Pure.

::

              an ordinary message came
      narrow ─────────────────────────► wide
     one, to look                 as many as configured
      ▲  │                              │
      │  │ a suspect came               │ a suspect came: no more are taken,
      │  ▼                              ▼ what is in hand is finished first
      └─ alone ◄────────────────────────┘
      its work is over

Every conversation with the broker begins narrow: what workers died of comes back at the head of the
queue, and whoever takes it is to have nothing else in hand. With a ``prefetch`` of one, narrow is wide.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Message = TypeVar("Message")


class PrefetchWindow(Generic[Message]):
    """Belongs to one thread. ``wanted`` is what to subscribe with; the rest tells it what happens."""

    def __init__(self, prefetch: int) -> None:
        self._full = prefetch
        self._width = 1
        self._suspect: Message | None = None
        self._working = False
        self._fills_the_slot = False

    @property
    def wanted(self) -> int:
        """How many un-acked messages to subscribe with; 0: not at all."""
        if self._suspect is None and not self._working:
            return self._width
        # One that fills the only slot keeps all others out by itself.
        return 1 if self._fills_the_slot else 0

    def open(self, *, working: bool) -> None:
        """A new conversation begins. ``working``: on a suspect of the last one, which the broker sends again."""
        self._width, self._suspect, self._working, self._fills_the_slot = 1, None, working, False

    def ordinary(self) -> None:
        """A message came that may be worked on beside others."""
        if self._suspect is None and not self._working:
            self._width = self._full

    def suspect(self, message: Message, subscribed: int) -> bool:
        """A suspect came to a subscription of that size: whether it is kept until its turn, or given back.

        Give back when the subscription is what is ``wanted``, not before, or it comes again at once.
        """
        if self._suspect is not None or self._working:
            return False
        self._suspect, self._fills_the_slot = message, subscribed == 1
        return True

    def idle(self) -> None:
        """Nothing is being worked on: what was begun alone is over."""
        if self._working:
            self._working, self._fills_the_slot, self._width = False, False, 1

    def begin(self) -> Message | None:
        """The suspect to begin now, if there is one; to be asked when ``idle``, with a subscription as ``wanted``."""
        suspect, self._suspect = self._suspect, None
        self._working = suspect is not None
        return suspect

    def close(self) -> Message | None:
        """Nothing more is begun: the suspect that waits, to be given back."""
        suspect, self._suspect = self._suspect, None
        return suspect
