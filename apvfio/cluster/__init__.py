# SPDX-License-Identifier: Apache-2.0
"""More than one host: what this host offers to a Pacemaker cluster, and how guests are configured there.

Two facts are published about each host: how many queues it has of each class of request, as node
utilization, and which guests it could start, as node attributes. Both are computed as if no guest of the
cluster held any queue: what the cluster itself does must not change what it decides on.
"""
