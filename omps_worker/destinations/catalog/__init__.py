# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle images and file-based catalogs in an image registry: names, credentials, the client, and what is written.

May know: ``common``, ``manifests`` and the protocol.
"""
