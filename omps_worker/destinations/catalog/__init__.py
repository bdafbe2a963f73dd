# SPDX-License-Identifier: GPL-3.0-or-later
"""File-based catalogs of bundle images: plan, render, validate, merge, and pack them as images.

May know: ``common``, ``manifests`` and the protocol. All modules here are pure: no network, no clock, no randomness.
What they read is hostile. What they write is the same bytes for the same content.

* ``tree`` plans the bundles of package manifests, of what ``directories`` reads.
* ``render`` makes a ``bundle`` of the files of a bundle image, as opm does.
* ``merge`` puts bundles into a package; ``rules`` says what opm would refuse about it.
* ``package_file`` is the text of a package; ``catalog_image`` holds the packages of a catalog in layers.
* ``image`` and ``layers`` write images; ``unpacking`` and ``tar_reader`` read those of others.
* ``versions``, ``references``, ``graph``, ``icons``, ``go_yaml`` and ``go_structs`` each know one grammar or rule.
"""
