# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests of an operator: unpacked, read, changed, validated by operator-courier, packed again.

May know: ``common``. What comes in is hostile; what goes out is the same bytes for the same content.
"""
