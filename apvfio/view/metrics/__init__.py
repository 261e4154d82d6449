# SPDX-License-Identifier: Apache-2.0
"""Metrics of a host's AP queues for Prometheus, made from a status."""
