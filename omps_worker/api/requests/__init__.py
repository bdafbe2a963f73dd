# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts that requests have in common: IDs and the access log, uploads, idempotency keys, and the waiting client.

May know: what ``api`` may; in ``api``: ``replies``.
"""
