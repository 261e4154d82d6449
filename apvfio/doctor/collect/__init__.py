# SPDX-License-Identifier: Apache-2.0
"""Facts about the host for the doctor; each reader turns a failure into a fact."""
