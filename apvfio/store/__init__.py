# SPDX-License-Identifier: Apache-2.0
"""The files, locks and processes of the machine.

Ledger, policy, persistent masks, stop records, and all of them together: `system.RealSystem`.
"""
