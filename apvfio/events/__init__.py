# SPDX-License-Identifier: Apache-2.0
"""What happened to queues: told by the ledger's changes, kept in a trail and in the journal."""
