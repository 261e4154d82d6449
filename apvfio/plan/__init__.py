# SPDX-License-Identifier: Apache-2.0
"""From a request, a host, a ledger and a policy to a plan and its steps.

Pure functions; the engine carries them out.
"""
