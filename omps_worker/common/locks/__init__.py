# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on packages: only one push to a package at a time, in this process or on this host.

May know: what ``common`` may.
"""
