# SPDX-License-Identifier: Apache-2.0
"""The audit log and the journal.

What the ledger's changes mean (`record`), and who had a queue when (`queue_history`).
"""
