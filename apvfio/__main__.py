# SPDX-License-Identifier: Apache-2.0
"""``python -m apvfio``."""

from apvfio.entry import main

main()
