# SPDX-License-Identifier: GPL-3.0-or-later
"""What people on duty see: health checks, readiness, metrics, and the port that shows them.

May know: the services that it asks (``koji_client``, ``destinations``, ``broker``), ``configuration`` and ``common``.
"""
