# SPDX-License-Identifier: Apache-2.0
"""The seam to the kernel: /sys read into values, and steps written to it, which is for the engine alone."""
