# SPDX-License-Identifier: Apache-2.0
"""Read and edit domain XML.

A guest's request (`request`), its annotation and its device (`xml_editor`).
"""
