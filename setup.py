# SPDX-License-Identifier: GPL-3.0-or-later
"""For tools that still ask for a setup.py; everything is in setup.cfg."""

from __future__ import annotations

from setuptools import setup

setup()
