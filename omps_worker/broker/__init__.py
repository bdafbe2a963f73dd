# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ: take messages, hand them to a handler, tell the outcome, park what failed, ack.

``connection`` how to connect · ``topology`` queues and bindings · ``publisher`` confirmed publishing ·
``consumer`` the loop of a worker · ``delivery`` one message taken · ``acks`` what may be acked when ·
``work`` what happens to a relevant message · ``parking`` the copy for the failed queue ·
``failed`` look through the failed queue · ``parked_message`` why a message is there ·
``replay`` send one again · ``dumps`` messages in files, without loss · ``headers`` the headers of ours ·
``header_values`` odd header values survive.
"""
