# SPDX-License-Identifier: GPL-3.0-or-later
"""Small grammars and rules of OLM and of Go: versions, image references, graphs, icons, YAML, structs. Pure.

May know: ``common`` and ``manifests``.
"""
