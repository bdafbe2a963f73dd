# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP client with limits: each call is limited in bytes and, as a whole, in seconds.

May know: ``common``. Koji's file server, registries and Greenwave are called through it; it knows none of them.
"""
