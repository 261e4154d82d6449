# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook, and libvirt's guests for the command line.

Commands read and compare the guests, and give them other queues.
"""
