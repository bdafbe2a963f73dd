# SPDX-License-Identifier: GPL-3.0-or-later
"""The image registry: names, credentials, and a client for its API (registry v2).

May know: what ``destinations`` may; nothing else in ``catalog``.
"""
