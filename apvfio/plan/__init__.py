# SPDX-License-Identifier: Apache-2.0
"""From a request, a host, the ledger and the policy to a plan: steps, cost, reasons. Pure functions."""
