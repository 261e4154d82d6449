# SPDX-License-Identifier: Apache-2.0
"""More than one host: what this host offers to a Pacemaker cluster, and how guests are configured there.

Two facts are published about each host: the number of its queues in each class of requests, as node
utilization, and which guests it could start, as node attributes. Queues that the cluster's guests hold count
as free: otherwise the cluster's own decisions would change the input of its decisions.
"""
