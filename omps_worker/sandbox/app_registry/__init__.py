# SPDX-License-Identifier: GPL-3.0-or-later
"""An app registry of your own: accounts, stored releases, and the API that shows them.

May know: what ``sandbox`` may.
"""
