# SPDX-License-Identifier: Apache-2.0
"""The verdicts of the doctor, from facts alone: no file is opened and no program is run here."""
