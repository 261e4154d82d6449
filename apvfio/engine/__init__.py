# SPDX-License-Identifier: Apache-2.0
"""The only room that changes a host: start, stop, reconcile, live change, claim, mask edit, mechanism.

And their previews.
"""
