# SPDX-License-Identifier: Apache-2.0
"""The files, locks and processes of the machine: ledger, policy, persistent masks, mdevctl definitions."""
