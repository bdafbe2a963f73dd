# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package across all replicas, held at the broker.

May know: ``broker`` and ``common``; ``common.locks.package_lock`` says what every such lock promises.
"""
