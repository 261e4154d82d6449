# SPDX-License-Identifier: Apache-2.0
"""A host's AP queues in numbers, for Prometheus: drawn from a status."""
