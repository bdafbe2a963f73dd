# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that every room speaks, and tools without an opinion: errors, data, times, text, limits, threads.

May know: nothing of ours. What only one room needs belongs there, not here.
"""
