# SPDX-License-Identifier: GPL-3.0-or-later
"""An image registry in memory: accounts, a token server, stored images, and the API that shows them.

May know: what ``sandbox`` may.
"""
