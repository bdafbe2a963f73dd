# SPDX-License-Identifier: GPL-3.0-or-later
"""Monitoring of a running service: health checks, readiness, metrics, and the port that shows them.

May know: what it checks (``koji_client``, ``destinations``, the gate in ``publishing``), ``configuration`` and
``common``. ``running`` passes in the check of the broker.
"""
