# SPDX-License-Identifier: Apache-2.0
"""Mediated devices in general, knowing nothing of what they mediate."""
