#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Annotate a guest with the AP queues that it requests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apvfio_guest
short_description: Set or remove the AP queues that a KVM guest requests
version_added: 0.9.0
description:
  - Runs C(apvfio guest set) or C(apvfio guest clear) on the host of the guest.
  - An option that is omitted keeps what the guest has.
author:
  - The apvfio developers (!UNKNOWN)
options:
  name:
    description: Name of a guest that libvirt knows.
    type: str
  xml:
    description: File on the target with the domain XML of a guest, in place of O(name).
    type: path
  state:
    description:
      - V(present) writes the request into the definition of the guest, or gives queues to the running guest.
      - V(absent) removes the request.
    type: str
    choices: [present, absent]
    default: present
  adapters:
    description: Adapters of the queues, in the notation of chzdev, such as V(0,0xa).
    type: str
  domains:
    description: Usage domains of the queues, such as V(1-2,4).
    type: str
  criteria:
    description: Properties of the queues, in place of their ids, such as V(mode=ep11,domains=2).
    type: str
  cards:
    description:
      - Properties of each kind of adapters if the guest needs several kinds, such as V(mode=cca,adapters=2).
      - All kinds share the domains. O(criteria) then has only the number of domains, such as V(domains=1).
    type: list
    elements: str
  control_domains:
    description:
      - Control domains of the guest, such as V(1-2,4). An empty text removes them.
      - V(usage) means the domains that the guest gets.
    type: str
  free_by:
    description: Free the queues by adapters or by domains. V(none) leaves the choice to apvfio.
    type: str
    choices: [adapters, domains, none]
  hostdev:
    description:
      - What to do with the mediated device in the definition.
      - V(auto) adds it with O(state=present) if it is missing.
      - V(auto) removes it with O(state=absent) if apvfio added it.
      - V(keep) leaves it as it is.
      - V(new) replaces it at each run, which a clone needs once. Only with O(state=present).
      - V(remove) removes it in any case. Only with O(state=absent).
    type: str
    choices: [auto, keep, new, remove]
    default: auto
  scope:
    description:
      - V(config) changes the next start of the guest.
      - V(live) changes the running guest at once.
    type: list
    elements: str
    choices: [config, live]
    default: [config]
  unchecked:
    description:
      - Write the request even if the host cannot satisfy it now.
      - Guests that use the same queues at different times need it.
        Without it the task fails while another guest has the queues.
    type: bool
    default: false
  connect:
    description: URI of the libvirt daemon.
    type: str
  executable:
    description: Path of the command apvfio on the target.
    type: path
    default: /usr/bin/apvfio
attributes:
  check_mode:
    description: Plans the start on the host and changes nothing.
    support: full
  diff_mode:
    description: Shows the lines of the XML before and after.
    support: full
"""

EXAMPLES = r"""
- name: Queues of db1
  apvfio.apvfio.apvfio_guest:
    name: db1
    adapters: 0,0xa
    domains: 1-2,4

- name: Two EP11 queues for a guest that Pacemaker starts from a file
  apvfio.apvfio.apvfio_guest:
    xml: /etc/apvfio/guests/db1.xml
    criteria: mode=ep11,domains=2

- name: Two CCA adapters and one EP11 adapter in one domain, which the guest may administer
  apvfio.apvfio.apvfio_guest:
    name: db2
    criteria: domains=1
    cards:
      - mode=cca,adapters=2
      - mode=ep11,adapters=1
    control_domains: usage

- name: No queues for web
  apvfio.apvfio.apvfio_guest:
    name: web
    state: absent
"""

RETURN = r"""
guest:
  description: Name of the guest.
  returned: success
  type: str
  sample: db1
definition:
  description: Lines of the XML that change, as a difference. Empty if nothing changes.
  returned: success
  type: list
  elements: str
plan:
  description: The next start of the guest on this host, or the change of the running guest.
  returned: with O(state=present), unless O(unchecked=true)
  type: dict
device:
  description: The mediated device of the guest.
  returned: with O(state=present)
  type: dict
mdev:
  description: The mediated device that the running guest lost.
  returned: with O(state=absent)
  type: str
error:
  description: The error that the command printed. Its C(kind) is stable.
  returned: failure of the command
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apvfio.apvfio.plugins.module_utils.command import EXECUTABLE, printed
from ansible_collections.apvfio.apvfio.plugins.module_utils.command_line import (
    contradiction,
    guest_words,
    is_change,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "xml": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "adapters": {"type": "str"},
            "domains": {"type": "str"},
            "criteria": {"type": "str"},
            "cards": {"type": "list", "elements": "str"},
            "control_domains": {"type": "str"},
            "free_by": {"type": "str", "choices": ["adapters", "domains", "none"]},
            "hostdev": {"type": "str", "choices": ["auto", "keep", "new", "remove"], "default": "auto"},
            "scope": {
                "type": "list",
                "elements": "str",
                "choices": ["config", "live"],
                "default": ["config"],
            },
            "unchecked": {"type": "bool", "default": False},
            "connect": {"type": "str"},
            "executable": {"type": "path", "default": EXECUTABLE},
        },
        mutually_exclusive=[
            ("name", "xml"),
            ("criteria", "adapters"),
            ("criteria", "domains"),
            ("cards", "adapters"),
            ("cards", "domains"),
        ],
        required_one_of=[("name", "xml")],
        supports_check_mode=True,
    )
    wrong = contradiction(module.params)
    if wrong:
        module.fail_json(msg=wrong)
    document = printed(module, guest_words(module.params, dry_run=module.check_mode))
    changed = is_change(document, live="live" in module.params["scope"])
    if changed:
        for warning in (document.get("plan") or {}).get("warnings", ()):
            module.warn(warning)
    lines = "".join(f"{line}\n" for line in document["definition"])
    # The state is the answer to --if-state, and changes with the host.
    shown = {key: value for key, value in document.items() if key != "state"}
    module.exit_json(changed=changed, diff={"prepared": lines} if lines else {}, **shown)


if __name__ == "__main__":
    main()
