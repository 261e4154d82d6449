# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts that build: where things are, how the archive is reached, how a step is done once.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/apvfio-machine
mkdir -p "$cache/log"

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Nobody else builds the same thing meanwhile. Usage: lock NAME, before anything is looked at.
lock() {
    exec 9>"$cache/$1.lock"
    flock 9
}

# hash_of FILE...: one word that changes when any of them does
hash_of() { cat "$@" | sha256sum | cut -c 1-16; }

# step NAME COMMAND...: its output goes to a log; on failure the log's end is shown.
step() {
    _log=$cache/log/$1.log
    _name=$1
    _began=$(date +%s)
    shift
    # Not in a condition: there, the shell would go on after an error inside the command.
    set +e
    (set -e && "$@") >"$_log" 2>&1
    _rc=$?
    set -e
    if [ "$_rc" != 0 ]; then
        tail -n 20 "$_log" >&2
        die "$_name failed ($_rc), see $_log"
    fi
    echo "$_name: $(($(date +%s) - _began)) s"
}

# The Debian archive that this machine's own apt uses: one URL. DEBIAN_MIRROR names another.
mirror() {
    # shellcheck disable=SC2016
    _mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(COMPONENT)' 'Created-By: Packages' |
        awk '$2 == "Debian" && $3 == "main" && $1 !~ /security/ { print $1; exit }')}
    [ -n "$_mirror" ] || die "apt has no Debian archive in its sources; DEBIAN_MIRROR can name one"
    echo "$_mirror"
}

keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# A mirror that stands still, a snapshot, is as good as any: its age is not looked at.
# apt_of SUITE ARG...: apt-get with lists of its own for another suite of the archive; this machine's are not touched
apt_of() {
    _suite=$1
    _state=$cache/apt/$1
    shift
    mkdir -p "$_state/lists/partial" "$_state/cache/archives/partial"
    echo "deb [signed-by=$keyring] $(mirror) $_suite main" >"$_state/sources.list"
    apt-get -o Dir::Etc::sourcelist="$_state/sources.list" -o Dir::Etc::sourceparts=- \
        -o Acquire::Check-Valid-Until=false -o Dir::State::Lists="$_state/lists" -o Dir::Cache="$_state/cache" -o APT::Sandbox::User=root "$@"
}
