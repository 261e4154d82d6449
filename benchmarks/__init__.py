# SPDX-License-Identifier: Apache-2.0
"""What apvfio costs beside a fair peer, measured side by side."""
