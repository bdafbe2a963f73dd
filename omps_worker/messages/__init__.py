# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from the bus and goes to it, as data: events, results, and how parked messages are told and kept.

May know: ``common``. Nothing here is connected to a broker; ``broker`` sends and receives.
"""
