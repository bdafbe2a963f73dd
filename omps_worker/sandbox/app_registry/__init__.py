# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's app registry: accounts, stored releases, and the API.

May know: what ``sandbox`` may.
"""
