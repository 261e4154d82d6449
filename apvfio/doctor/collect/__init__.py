# SPDX-License-Identifier: Apache-2.0
"""Collecting what there is to judge; nothing is changed."""
