# SPDX-License-Identifier: GPL-3.0-or-later
"""File-based catalogs of bundle images: plan, render, validate, merge, and pack them as images.

May know: ``common``, ``manifests`` and the protocol. The modules here are pure: no network, no clock, no randomness.
What they read is hostile. What they write is the same bytes for the same content.
"""
