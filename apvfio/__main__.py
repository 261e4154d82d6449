# SPDX-License-Identifier: Apache-2.0
"""``python -m apvfio``."""

from apvfio.cli.entry import main

main()
