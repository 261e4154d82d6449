# SPDX-License-Identifier: Apache-2.0
"""Mediated devices in general, independent of the kind of device."""
