# SPDX-License-Identifier: Apache-2.0
"""A stand-in for s390-tools' ap-check, which Debian does not ship: its answers and its lock."""

from __future__ import annotations

from real_tools import S390_LOCK

SEEN = "/run/seen"
"""Where it writes what it was asked."""
PASS = "exit 0"
VETO = f"rm -f {S390_LOCK}; exit 255"


def stand_in(then: str = PASS) -> str:
    """A script that does ``then``, with the lock held, before a start.

    As the real one does it takes the lock in its parent's name from before an action until after it,
    by a link, waits while its holder lives, and afterwards lets go of no lock but its parent's
    (util_lockfile.c:do_lockfile_lock, do_lockfile_release).
    """
    return _SCRIPT.replace("THEN", then)


_SCRIPT = f"""\
#!/bin/sh
lock={S390_LOCK}
while [ $# -gt 0 ]; do
    case $1 in -e) event=$2 ;; -a) action=$2 ;; esac
    shift 2
done
echo "$event-$action" >>{SEEN}
take() {{
    echo $PPID >$lock$$
    until ln $lock$$ $lock 2>/dev/null; do
        holder=$(cat $lock 2>/dev/null)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then rm -f $lock; else sleep 0.03; fi
    done
    rm $lock$$
}}
case $event-$action in
get-capabilities)
    actions='"start","stop","define"'
    echo "{{\\"supports\\":{{\\"version\\":2,\\"actions\\":[$actions],\\"events\\":[\\"pre\\",\\"post\\"]}}}}"
    ;;
pre-start)
    take
    cat /run/apvfio/ledger.json >{SEEN}.ledger
    cat >{SEEN}.text
    THEN
    ;;
pre-stop | pre-define) take ;;
post-*) [ "$(cat $lock 2>/dev/null)" != $PPID ] || rm -f $lock ;;
esac
"""
