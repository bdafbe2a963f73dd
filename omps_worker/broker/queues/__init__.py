# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues on the broker: their declaration, their bindings, how many messages they hold, and checks of all that.

May know: what ``broker`` may; in ``broker``: ``connection`` and ``locks``.
"""
