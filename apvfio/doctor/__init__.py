# SPDX-License-Identifier: Apache-2.0
"""Why a guest does not start: facts about the host are collected in `look`, judged in `judge`."""
