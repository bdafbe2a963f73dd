# SPDX-License-Identifier: GPL-3.0-or-later
"""OMPS's REST API, v1 and v2, on top of the worker's core.

May know: every room but ``cli``, ``running``, ``bootstrap``, ``results`` and ``sandbox``. ``app`` has the routes,
``requests`` what is common to all requests, ``scheduling`` the queues in which requests wait, ``service`` what each
request does, and ``replies`` the replies to errors; ``server`` runs the API, and ``wiring`` builds its parts.
"""
