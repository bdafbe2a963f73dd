# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry (CNR) of Quay and of the reference servers: packages, releases, organizations, credentials.

May know: ``common`` and ``manifests``. No other code knows the URLs, statuses and tokens of an app registry.
"""
