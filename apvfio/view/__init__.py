# SPDX-License-Identifier: Apache-2.0
"""What people look at: pictures of a matrix, tables, metrics; drawn from values that others have read."""
