# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package over all replicas, kept by the broker.

May know: ``broker`` and ``common``; ``common.locks`` says what every such lock promises.
"""
