# SPDX-License-Identifier: Apache-2.0
"""Assign Crypto Express queues to KVM guests on IBM Z, and return them at shutdown."""
