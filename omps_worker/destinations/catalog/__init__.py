# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle images and file-based catalogs (OLM) in an image registry.

May know: ``common``, ``manifests`` and the protocol. Everything that is read is hostile. Everything that is written is
the same bytes for the same content.
"""
