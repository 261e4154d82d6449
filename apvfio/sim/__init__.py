# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel: AP bus, vfio_ap and mediated devices behind the same /sys paths as the real ones.

It answers to the byte and to the errno as Linux 6.1, 6.12, 7.2 or 7.3 would; where a run on a real
kernel differs, this room is wrong. `profile` holds what differs between versions, `grammar` the
kernel's parsers, `state` everything that is remembered; `ownership`, `bus`, `vfio` and `modules`
are the rules; `tree` and its branches show them as /sys; `kernel` is the whole.
"""
