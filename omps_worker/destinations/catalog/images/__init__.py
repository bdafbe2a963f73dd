# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle images and catalog images as bytes, written and read. Pure.

May know: ``packages``, ``grammars`` and ``common``.
"""
