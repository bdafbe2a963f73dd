# SPDX-License-Identifier: GPL-3.0-or-later
"""Which push is worked on next: permissions, fair queues and the worker pool of one process.

May know: what ``api`` may; nothing else in ``api``.
"""
