# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as data: events from the bus, results for the bus, and parked messages in lists and files.

May know: ``common``. Nothing here connects to a broker; ``broker`` sends and receives.
"""
