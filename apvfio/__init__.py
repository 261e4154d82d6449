# SPDX-License-Identifier: Apache-2.0
"""Crypto Express queues for KVM guests on IBM Z, given at start and returned at shutdown."""
