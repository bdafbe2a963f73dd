# SPDX-License-Identifier: GPL-3.0-or-later
"""A private broker, Koji and app registry on loopback, for the demo, the tests and development.

May know: ``common``. Only ``cli`` imports it.
"""
