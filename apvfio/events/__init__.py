# SPDX-License-Identifier: Apache-2.0
"""The audit log and the journal.

The events that changes of the ledger mean (`record`), and who had a queue when (`queue_history`).
"""
