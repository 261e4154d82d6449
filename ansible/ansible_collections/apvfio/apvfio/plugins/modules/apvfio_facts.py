#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Return the queues of a host, and what it offers to its cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apvfio_facts
short_description: Return the AP queues of a host and what it offers to its cluster
version_added: 0.9.0
description:
  - Runs C(apvfio queues), and C(apvfio cluster offer) and C(apvfio cluster guest) if O(guests) is given.
  - Changes nothing.
author:
  - The apvfio developers (!UNKNOWN)
options:
  guests:
    description:
      - Directory on the target with the XML files of the guests of its cluster.
      - Without it, only the queues are returned.
    type: path
  executable:
    description: Path of the command apvfio on the target.
    type: path
    default: /usr/bin/apvfio
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  facts:
    description: Returns facts.
    support: full
"""

EXAMPLES = r"""
- name: Queues and offer
  apvfio.apvfio.apvfio_facts:
    guests: /etc/apvfio/guests

- name: Require queues in mode EP11
  ansible.builtin.assert:
    that: ansible_facts.apvfio.offer.utilization['ap-ep11'] | default(0) >= 2
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    apvfio:
      description: The queues of the host and its offer.
      returned: success
      type: dict
      contains:
        queues:
          description: Cards and queues, as C(apvfio queues --json) prints them.
          returned: success
          type: list
          elements: dict
        offer:
          description: What C(apvfio cluster offer --json) prints. Null without O(guests).
          returned: success
          type: dict
        primitives:
          description:
            - The guests as C(ha_cluster_resource_primitives) of the role ha_cluster. Empty without O(guests).
          returned: success
          type: list
          elements: dict
        locations:
          description:
            - The location rules of the guests as C(ha_cluster_constraints_location). Empty without O(guests).
          returned: success
          type: list
          elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apvfio.apvfio.plugins.module_utils.command import EXECUTABLE, printed
from ansible_collections.apvfio.apvfio.plugins.module_utils.command_line import location, primitive


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "guests": {"type": "path"},
            "executable": {"type": "path", "default": EXECUTABLE},
        },
        supports_check_mode=True,
    )
    queues = printed(module, ["queues", "--json"])
    offer, resources = None, []
    if module.params["guests"]:
        offer = printed(module, ["cluster", "offer", "--json", f"--guests={module.params['guests']}"])
        # A guest whose file is not valid has no utilization; its error is in the offer.
        valid = [guest for guest in offer["guests"] if guest["utilization"]]
        resources = [printed(module, ["cluster", "guest", "--json", "--", guest["file"]]) for guest in valid]
    facts = {
        "queues": queues,
        "offer": offer,
        "primitives": [primitive(resource) for resource in resources],
        "locations": [location(resource) for resource in resources],
    }
    module.exit_json(changed=False, ansible_facts={"apvfio": facts})


if __name__ == "__main__":
    main()
