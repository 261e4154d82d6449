# SPDX-License-Identifier: Apache-2.0
"""What the facts mean, in sentences, and what mends them; no input or output here."""
