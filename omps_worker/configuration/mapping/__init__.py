# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping file: which build goes to which targets, and what is held or paused.

May know: what ``configuration`` may.
"""
