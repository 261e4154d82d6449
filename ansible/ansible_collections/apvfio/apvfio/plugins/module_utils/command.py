# SPDX-License-Identifier: Apache-2.0
"""Run apvfio on the target, and read the JSON document that it prints."""

from __future__ import annotations

import json
import typing

from ansible_collections.apvfio.apvfio.plugins.module_utils.command_line import failure

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.basic import AnsibleModule

EXECUTABLE = "/usr/bin/apvfio"

_WARNING = "apvfio: warning: "


def printed(module: AnsibleModule, words: Sequence[str]) -> typing.Any:
    """Return the document that apvfio prints, called with ``words``; end the module if the command fails."""
    command = [module.params["executable"], *words]
    try:
        code, out, err = module.run_command(command, handle_exceptions=False)
    except OSError as refused:
        reason = f"{command[0]} cannot be run: {refused.strerror}."
        module.fail_json(msg=f"{reason} Install apvfio on the target, or set the option executable.")
    try:
        document = json.loads(out)
    except ValueError:
        module.fail_json(msg=err.strip() or "apvfio printed no JSON.", rc=code, cmd=command)
    if code:
        error = document["error"]
        module.fail_json(msg=failure(error), error=error, rc=code, cmd=command)
    for line in err.splitlines():
        if line.startswith(_WARNING):
            module.warn(line[len(_WARNING) :])
    return document
