# SPDX-License-Identifier: GPL-3.0-or-later
"""The failed queue, ``<queue>.failed``: list, show, replay, discard and export parked messages.

May know: ``broker``, ``messages`` and ``common``. Nothing here loses a message: each is copied before it is acked.
"""
