# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ: consume messages, publish results, park failures, ack messages, and lock packages.

May know: ``messages``, the settings of ``configuration``, the retry schedule of ``publishing``, and ``common``; nothing
about Koji or registries. ``consuming/consumer.py`` has a worker's main loop, ``publisher.py`` publishes with confirms,
``queues/topology.py`` has the names and arguments of the queues.
"""
