# SPDX-License-Identifier: GPL-3.0-or-later
"""How a build becomes a release: targets, gate, order among builds, retries, catch-up and explanations.

May know: ``destinations``, ``manifests``, ``messages``, the mapping, and ``common``; no broker and no command line.
"""
