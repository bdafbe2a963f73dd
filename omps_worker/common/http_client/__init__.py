# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with limits: each call is bounded in bytes and, as a whole, in seconds.

May know: ``common``. Speaks to Koji's files, registries and Greenwave alike, and knows none of them.
"""
