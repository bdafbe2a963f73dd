# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's manifests: unpack them, read them, change them, validate them with operator-courier, pack them again.

May know: ``common``. The input is untrusted. The same content always gives the same output, byte for byte.
"""
