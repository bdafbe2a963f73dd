# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: temporary directories, small state files, checks for regular files, and detecting changes.

May know: what ``common`` may import.
"""
