# SPDX-License-Identifier: Apache-2.0
"""Make the manual pages in man/ of the Markdown files here and of the parsers of the command line.

``python3 -m manuals`` writes the pages; a test holds them equal to their sources.
"""
