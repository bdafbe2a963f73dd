# SPDX-License-Identifier: GPL-3.0-or-later
"""Monitoring of a running service: health checks, readiness, metrics, and the port that shows them.

May know: the services that it checks (``koji_client``, ``destinations``, ``broker``), ``configuration`` and ``common``.
"""
