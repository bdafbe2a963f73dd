# SPDX-License-Identifier: GPL-3.0-or-later
"""OMPS's REST API, v1 and v2, on the core of the worker.

May know: every room but ``cli``. ``app`` has the routes, ``flow`` the lines that requests wait in, ``service`` what a
request means, ``replies`` how errors are told; ``server`` runs it, and ``wiring`` puts its parts together.
"""
