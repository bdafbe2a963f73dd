# SPDX-License-Identifier: GPL-3.0-or-later
"""Converting a configuration of OMPS into one of omps-worker.

``file`` reads the Python file without running it, with the help of ``values``. ``translation`` finds the counterpart of
each key. ``document`` writes the TOML.

May know: what ``configuration`` may; in ``configuration``: ``settings``.
"""
