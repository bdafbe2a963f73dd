# SPDX-License-Identifier: GPL-3.0-or-later
"""One package of a catalog: its file, and the rules by which opm accepts it. Pure.

May know: ``grammars``, ``common`` and ``manifests``.
"""
