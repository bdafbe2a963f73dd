# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues on the broker: their declaration, bindings and depths, and checks of all these.

May know: what ``broker`` may; in ``broker``: ``connection`` and ``locks``.
"""
