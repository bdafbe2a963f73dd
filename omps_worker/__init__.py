# SPDX-License-Identifier: GPL-3.0-or-later
"""omps-worker publishes the operator manifests of Koji builds to an app registry."""

__version__ = "0.1.0"
