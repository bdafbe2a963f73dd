# SPDX-License-Identifier: GPL-3.0-or-later
"""The Koji client: the hub, the file server, and the validation of their answers.

May know: ``common`` and the settings of ``configuration``. All data from Koji is validated here.
"""
