# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: every key, its default, its valid values, and how it is read.

May know: what ``configuration`` may; nothing else in ``configuration`` but ``file_text``.
"""
