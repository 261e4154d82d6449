# SPDX-License-Identifier: Apache-2.0
"""What people look at: the picture of a host's matrix, and tables. Pure functions from facts to text."""
