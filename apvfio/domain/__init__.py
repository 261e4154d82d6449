# SPDX-License-Identifier: Apache-2.0
"""Domain XML in and out: a guest's request read from it, its annotation and device edited."""
