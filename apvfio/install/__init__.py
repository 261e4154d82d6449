# SPDX-License-Identifier: Apache-2.0
"""Install apvfio on a host, and remove it completely."""
