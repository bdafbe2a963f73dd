# SPDX-License-Identifier: GPL-3.0-or-later
"""Koji, where builds come from: its hub, its file server, and what both answer.

May know: ``common`` and the settings of ``configuration``. Everything that Koji says is checked here.
"""
