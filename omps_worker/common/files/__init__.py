# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: temporary directories, small state files, regular files only, and whether a file was renewed.

May know: what ``common`` may.
"""
