# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes the operator manifests of finished Koji builds to an app registry."""

__version__ = "0.1.0"
