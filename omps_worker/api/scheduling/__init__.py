# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduling of requests: the permission check, fair queues, and the worker pool of one process.

May know: what ``api`` may; nothing else in ``api``.
"""
