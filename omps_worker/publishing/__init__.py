# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of a build, from what Koji says of it to its outcome: targets, gate, order among builds, retries.

May know: ``destinations``, ``manifests``, ``messages``, the mapping, and ``common``; no broker and no command line.
"""
