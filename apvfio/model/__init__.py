# SPDX-License-Identifier: Apache-2.0
"""Values without input or output: ids, matrices, requests, hosts, leases, errors.

Every room may import them.
"""
