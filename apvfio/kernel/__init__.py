# SPDX-License-Identifier: Apache-2.0
"""The interface to /sys: snapshots read into values, and steps applied.

Steps (`apply`) are for the engine alone.
"""
