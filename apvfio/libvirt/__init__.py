# SPDX-License-Identifier: Apache-2.0
"""What libvirt runs, the hook.

And libvirt's guests for the command line: read, compared, given other queues.
"""
