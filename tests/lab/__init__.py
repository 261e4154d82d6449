# SPDX-License-Identifier: Apache-2.0
"""The lab: a private real libvirtd that takes a simulated host for its own. Tests and the demo use it."""
