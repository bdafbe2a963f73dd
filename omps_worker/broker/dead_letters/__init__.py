# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of failures, ``<queue>.failed``: what is parked there, looked at, sent again or thrown away.

May know: ``broker``, ``messages`` and ``common``. Nothing here loses a message: each is copied before it is acked.
"""
