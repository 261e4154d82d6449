# SPDX-License-Identifier: Apache-2.0
"""The examples that ``--help`` of each command shows; they can be pasted, with the comments after #."""

from __future__ import annotations

_TEXT = """\
apvfio guest set db1 --adapters 0,0xa --domains 1-2,4   # write its request
apvfio plan db1                 # preview its start
apvfio status                   # the owner of each queue
apvfio doctor db1               # find out why it does not start
[status]
apvfio status
apvfio status db1               # everything about one guest
apvfio status --watch           # follow changes until Ctrl-C
apvfio status --svg host.svg    # a picture for a browser
apvfio status --json
apvfio status --adapter 0xa     # all users of a card, before it is replaced
[doctor]
apvfio doctor                   # this host and all guests
apvfio doctor db1               # everything that concerns db1
apvfio doctor --xml guest.xml   # a guest that is not defined yet
[log]
apvfio log --since yesterday
apvfio log --guest db1 --since 2h
apvfio log --queue 0a.001b      # the guests that had it, and when
apvfio log --follow
[metrics]
apvfio metrics
apvfio metrics --output apvfio.prom    # for node_exporter's textfile collector
[queues]
apvfio queues
apvfio queues --no-headings
apvfio queues --json
[policy]
apvfio policy show
apvfio policy check
[policy show]
apvfio policy show
apvfio policy show --json
[policy check]
apvfio policy check             # after an edit
[keys]
apvfio keys list
apvfio keys forget --domains 0x1b   # after a key ceremony
[keys list]
apvfio keys list
apvfio keys list --json
[keys forget]
apvfio keys forget 0a.001b --dry-run
apvfio keys forget 0a.001b
apvfio keys forget --domains 0x1b
[plan]
apvfio plan db1
apvfio plan --all               # all guests together
apvfio plan --xml guest.xml --json
virsh dumpxml db1 | apvfio plan --xml -
[guest]
apvfio guest list
apvfio guest set db1 --adapters 0,0xa --domains 1-2,4
[guest set]
apvfio guest set db1 --adapters 0,0xa --domains 1-2,4 --dry-run
apvfio guest set db1 --adapters 0,0xa --domains 1-2,4 --control-domains 1-2,4
apvfio guest set db1 --any mode=ep11,domains=2   # any two free queues
apvfio guest set db1 --cards mode=cca,adapters=1 --cards mode=ep11,adapters=1   # in one domain
apvfio guest set db1 --adapters 0 --domains 1-2 --live --config   # now, and at its next start
apvfio guest set db1 --new-device   # db1 is a clone and has the device of its original
apvfio guest set --xml guest.xml --any mode=ep11   # a guest that is started from a file
[guest clear]
apvfio guest clear db1 --dry-run
apvfio guest clear db1
apvfio guest clear db1 --live   # return the queues of a running guest
[guest show]
apvfio guest show db1
apvfio guest show db1 --json
apvfio guest show db1 --live    # the request that it runs with
[guest list]
apvfio guest list
apvfio guest list --json
[cluster]
apvfio cluster offer
apvfio cluster guest guest.xml
apvfio cluster outlook
[cluster offer]
apvfio cluster offer            # for the guests in /etc/apvfio/guests
apvfio cluster offer --guests .
[cluster publish]
apvfio cluster publish --dry-run
apvfio cluster publish          # as ocf:apvfio:Queues does
[cluster outlook]
apvfio cluster outlook
[cluster priorities]
apvfio cluster priorities       # commands for crm_resource
[cluster guest]
apvfio cluster guest guest.xml          # commands for pcs
apvfio cluster guest guest.xml --crm
apvfio cluster guest guest.xml --xml    # for cibadmin
[define]
apvfio define db1 --dry-run
apvfio define db1
apvfio define db1 --replace     # after its annotation has changed
apvfio define --xml guest.xml
[undefine]
apvfio undefine db1
apvfio undefine --xml guest.xml
[masks]
apvfio masks
apvfio masks apmask=-0,-0xa --dry-run    # preview the loss of the host
apvfio masks apmask=-0,-0xa              # now and at boot
apvfio masks aqmask=+1-2,-4 --active     # now only
apvfio masks --persistent --remove apmask
[mechanism]
apvfio mechanism
apvfio mechanism overrides --dry-run # what would change
apvfio mechanism overrides           # free single queues, if the kernel can
apvfio mechanism masks
[migrate]
apvfio migrate db1 qemu+ssh://root@host2/system --dry-run
apvfio migrate db1 qemu+ssh://root@host2/system --tls --timeout 600
apvfio migrate db1 qemu+tls://host2/system --at 'ssh -p 2222 root@host2 apvfio'
apvfio migrate db1 qemu+ssh://root@host2/system --back   # after it was interrupted
[incoming]
virsh dumpxml db1 | apvfio incoming --dry-run
virsh dumpxml db1 | apvfio incoming
virsh dumpxml db1 | apvfio incoming --give-up
[drain]
apvfio drain --adapter 0xa --dry-run    # who would move, and who must be stopped
apvfio drain --adapter 0xa --yes
apvfio drain --adapter 0xa --restore --yes   # after the change
[reconcile]
apvfio reconcile --dry-run
apvfio reconcile
apvfio reconcile --quiet          # in a script
apvfio reconcile --wait 60 --defer   # as at boot
[release]
apvfio release db1 --dry-run
apvfio release db1 --verbose      # each write to the kernel
[install]
apvfio install --dry-run
apvfio install
mkdir tree && apvfio --root tree install --package   # the files of a package
[uninstall]
apvfio uninstall --dry-run
apvfio uninstall
[dump]
apvfio dump host.json
apvfio --sim host.json plan --xml guest.xml   # on a laptop
[demo]
apvfio demo
[sim]
apvfio sim new host.json
apvfio --sim host.json status
[sim new]
apvfio sim new host.json
apvfio sim new lpar.json --kernel 6.12 --adapters 0-1=cca,0xa=ep11 --domains 1-2,0x1b
apvfio --sim lpar.json queues
[sim start]
apvfio sim start host.json guest.xml
apvfio --sim host.json status   # the queues of the guest
[sim stop]
apvfio sim stop host.json db1
[sim kill]
apvfio sim kill host.json db1   # as if libvirt's daemon ended with the guest
apvfio --sim host.json reconcile
[sim mount]
apvfio sim mount host.json /mnt/host     # until Ctrl-C
apvfio --root /mnt/host status
"""
_PARTS = (part.partition("]\n") for part in f"]\n{_TEXT}".split("\n["))
EXAMPLES = {command: examples for command, _, examples in _PARTS}
"""By command and verb; '' is the program itself."""
