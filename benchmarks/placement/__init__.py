# SPDX-License-Identifier: Apache-2.0
"""How many guests get queues if Pacemaker places them by what apvfio publishes, beside the exact optimum."""
