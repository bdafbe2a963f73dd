# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's Koji: hub, file server, and the messages about its builds.

May know: what ``sandbox`` may.
"""
