# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the broker: credentials and nodes, the meaning of failures, backoff, and calls with a timeout.

May know: what ``broker`` may; nothing else in ``broker``.
"""
