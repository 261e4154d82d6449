# SPDX-License-Identifier: Apache-2.0
"""apvfio behind mdevctl: its callout and notifier, and persistent definitions of guests' devices."""
