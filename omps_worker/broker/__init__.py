# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ: consume messages, hand them to a worker, publish results, park failures, ack; and the lock per package.

May know: ``messages``, the settings of ``configuration``, the schedule of retries in ``publishing``, and ``common``;
nothing of Koji and of registries. ``consumer`` is the loop of a worker, ``publisher`` publishes with confirms,
``topology`` has the names of queues.
"""
