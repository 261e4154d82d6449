# SPDX-License-Identifier: Apache-2.0
"""Domain XML read and edited.

A guest's request (`request`), its annotation and its device (`xml_editor`).
"""
