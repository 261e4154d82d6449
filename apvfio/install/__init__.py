# SPDX-License-Identifier: Apache-2.0
"""apvfio made a part of a host, and taken out of it again without a trace."""
