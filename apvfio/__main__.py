# SPDX-License-Identifier: Apache-2.0
"""``python -m apvfio``."""

import sys

from apvfio.cli.main import main

sys.exit(main())
