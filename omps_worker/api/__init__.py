# SPDX-License-Identifier: GPL-3.0-or-later
"""OMPS's REST API, v1 and v2, on the core of the worker.

``service`` knows what a request means, ``replies`` how errors are told, and neither knows a web framework;
``app`` and ``uploads`` are the HTTP, ``server`` runs it, and ``wiring`` puts a site's parts together for it.
"""
