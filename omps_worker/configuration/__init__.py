# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file, the mapping, and the conversion of a configuration of OMPS.

May know: what settings describe (``destinations``, ``manifests``), the schemas of ``messages``, and ``common``.
"""
