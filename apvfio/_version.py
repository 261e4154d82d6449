# SPDX-License-Identifier: Apache-2.0
"""The version, as a constant: to read it from the installed metadata would cost a hook 40 ms."""

__version__ = "0.9.0"
