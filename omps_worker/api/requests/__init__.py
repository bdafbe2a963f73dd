# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a request: its id and log line, uploads, idempotency keys, and the client that waits.

May know: what ``api`` may; in ``api``: ``replies``.
"""
