# SPDX-License-Identifier: GPL-3.0-or-later
"""Where releases go: one protocol, and a room for each kind of destination.

May know: ``common`` and ``manifests``. Nothing outside of a kind's own room knows how its registry is spoken to.
"""
