# SPDX-License-Identifier: Apache-2.0
"""A running guest that has AP queues goes to another host, where it has queues again."""
