# SPDX-License-Identifier: Apache-2.0
"""Migrate a running guest with AP queues to another host, where it gets queues (`migrate`)."""
