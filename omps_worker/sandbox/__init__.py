# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker, a Koji and an app registry of one's own on loopback: for the demo, for tests, for development.

May know: ``common``. Nothing but ``cli`` knows it.
"""
