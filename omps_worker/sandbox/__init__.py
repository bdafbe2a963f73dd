# SPDX-License-Identifier: GPL-3.0-or-later
"""A private broker, Koji, app registry and image registry on loopback, for the demo, the tests and development.

May know: ``common``. Only ``cli`` imports it.
"""
