# SPDX-License-Identifier: Apache-2.0
"""What mdevctl runs, callout and notifier; and persistent definitions of guests' devices."""
