# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry (CNR) of Quay and of the reference servers: packages, releases, organizations, credentials.

May know: ``common`` and ``manifests``. Who needs a URL, a status or a token of an app registry finds it here alone.
"""
