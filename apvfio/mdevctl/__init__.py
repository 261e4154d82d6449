# SPDX-License-Identifier: Apache-2.0
"""mdevctl's callout and notifier, and persistent definitions of guests' devices."""
