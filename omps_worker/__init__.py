# SPDX-License-Identifier: GPL-3.0-or-later
"""omps-worker publishes the operators of Koji builds to catalogs and app registries."""

__version__ = "0.1.0"
