# SPDX-License-Identifier: Apache-2.0
"""Output for people: pictures of a matrix, tables, metrics; made from values that others have read."""
