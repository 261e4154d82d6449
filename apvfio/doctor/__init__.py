# SPDX-License-Identifier: Apache-2.0
"""Why a guest does not start: `collect` reads facts, `checks` judge them, `run_checks` does both.

For the command line.
"""
