# SPDX-License-Identifier: Apache-2.0
"""The hook, and libvirt's guests for the command line."""
