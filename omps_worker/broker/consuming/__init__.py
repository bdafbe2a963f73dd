# SPDX-License-Identifier: GPL-3.0-or-later
"""Consuming: take messages from the queue, dispatch them to worker threads, ack them when their outcome is recorded.

May know: what ``broker`` may; in ``broker``: everything else.
"""
