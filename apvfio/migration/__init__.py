# SPDX-License-Identifier: Apache-2.0
"""A running guest that has AP queues moves to another host and has queues there (`migrate`)."""
