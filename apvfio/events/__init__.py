# SPDX-License-Identifier: Apache-2.0
"""What happened to queues: told by the ledger's changes, kept in an audit log and in the journal."""
