# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command, each with ``add_parser`` and a ``run`` that returns an exit code.

Nobody imports it.
"""
