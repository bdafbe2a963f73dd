# SPDX-License-Identifier: GPL-3.0-or-later
"""A Koji of your own: hub, file server, and the messages that it sends.

May know: what ``sandbox`` may.
"""
