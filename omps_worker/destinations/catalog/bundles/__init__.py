# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: planned from package manifests, and rendered from the files of a bundle image as opm does. Pure.

May know: ``packages``, ``grammars``, ``common`` and ``manifests``.
"""
