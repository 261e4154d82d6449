# SPDX-License-Identifier: Apache-2.0
# bash completion for apvfio(8): commands, options, guests, adapters, domains and queues.
# Python takes its time to start: nothing here runs apvfio.
# shellcheck shell=bash

# libvirt's guests. Another host is not asked: ssh might want a password.
_apvfio_guests() {
    local uri=${1:-${LIBVIRT_DEFAULT_URI:-qemu:///system}}
    [[ $uri =~ ^[a-z]+(\+unix)?:/// ]] || return 0
    timeout 2 virsh --readonly --connect "$uri" list --all --name 2>/dev/null
}

# The guests that hold queues, from the ledger of the host below $1, which only root can read.
# Names that JSON has to escape are left to be typed, or named by their uuids.
_apvfio_holders() {
    sed -n 's/^ *"guest": "\([^"\\]*\)",\{0,1\}$/\1/p' "$1/run/apvfio/ledger.json" 2>/dev/null
}

# The ids of the $2, adapters or domains, of the host below $1, as a list has them.
_apvfio_ids() {
    local path name id seen=' '
    [ -d "$1/sys/bus/ap/devices" ] || return 0
    for path in "$1"/sys/bus/ap/devices/*.*; do
        name=${path##*/}
        # Names that are anything else would be run as arithmetic.
        [[ $name =~ ^[[:xdigit:]]{2}\.[[:xdigit:]]{4}$ ]] || continue
        case $2 in
        adapters) id=$((16#${name%.*})) ;;
        domains) id=$((16#${name#*.})) ;;
        esac
        [[ $seen != *" $id "* ]] || continue
        seen+="$id "
        if ((id < 10)); then echo "$id"; else printf '0x%x\n' "$id"; fi
    done
}

# The queues of the host below $1, as lszcrypt calls them.
_apvfio_queues() {
    local path
    for path in "$1"/sys/bus/ap/devices/*.*; do
        [[ ! ${path##*/} =~ ^[[:xdigit:]]{2}\.[[:xdigit:]]{4}$ ]] || echo "${path##*/}"
    done
}

# What may follow the command and the verb $1.
_apvfio_words() {
    case $1 in
    '') echo "--help --version --sim --root --connect -c status doctor log metrics queues keys policy plan guest cluster migrate drain incoming
        define undefine masks mechanism reconcile release dump demo sim install uninstall" ;;
    status) echo "--help --json --color --watch --svg --adapter --domain --connect -c" ;;
    doctor) echo "--help --json --xml --connect -c --color" ;;
    log) echo "--help --json --connect -c --guest --queue --since --until --follow -f" ;;
    metrics) echo "--help --output" ;;
    migrate) echo "--help --json --connect -c --at --migrate-uri --tls --timeout --keep-definition --other-keys
        --by-kernel --back --back-uri --dry-run -n --quiet -q --verbose -v" ;;
    drain) echo "--help --json --adapter --domain --all --restore --dry-run -n --yes -y --connect -c --quiet -q --verbose -v" ;;
    incoming) echo "--help --json --dry-run -n --give-up --hold" ;;
    queues) echo "--help --json --no-headings" ;;
    policy) echo "--help show check" ;;
    'policy show') echo "--help --json" ;;
    'policy check') echo "--help" ;;
    keys) echo "--help list forget" ;;
    'keys list') echo "--help --json" ;;
    'keys forget') echo "--help --json --adapters --domains --all --dry-run -n --quiet -q" ;;
    plan) echo "--help --json --xml --connect -c --all" ;;
    guest) echo "--help set clear show list" ;;
    'guest set') echo "--help --json --xml --connect -c --adapters --domains --any --cards --control-domains --free-by
        --no-hostdev --new-device --unchecked --config --live --dry-run -n --if-state --quiet -q --verbose -v" ;;
    'guest clear') echo "--help --json --connect -c --xml --keep-hostdev --remove-hostdev --config --live --dry-run -n
        --if-state --quiet -q --verbose -v" ;;
    'guest show') echo "--help --connect -c --live --json" ;;
    'guest list') echo "--help --all --connect -c --json --color" ;;
    cluster) echo "--help offer publish priorities guest outlook" ;;
    'cluster offer') echo "--help --json --guests" ;;
    'cluster publish') echo "--help --json --guests --node --dry-run -n --quiet -q" ;;
    'cluster outlook' | 'cluster priorities') echo "--help --json" ;;
    'cluster guest') echo "--help --json --pcs --crm --xml" ;;
    define) echo "--help --xml --connect -c --replace --dry-run -n --quiet -q" ;;
    undefine) echo "--help --xml --connect -c --dry-run -n --quiet -q" ;;
    masks) echo "--help --active -a --persistent -p --remove -r --dry-run -n --yes -y --if-state --json --quiet -q --verbose -v apmask=
        aqmask=" ;;
    mechanism) echo "--help --json --dry-run -n masks overrides --quiet -q --verbose -v" ;;
    reconcile) echo "--help --json --wait --defer --dry-run -n --if-state --quiet -q --verbose -v" ;;
    release) echo "--help --json --force --yes -y --dry-run -n --if-state --quiet -q --verbose -v" ;;
    dump) echo "--help --force" ;;
    sim) echo "--help new start stop kill mount" ;;
    'sim new') echo "--help --kernel --adapters --domains --control-domains --no-vfio-ap --force" ;;
    'sim start' | 'sim stop' | 'sim kill' | 'sim mount') echo "--help" ;;
    install) echo "--help --prefix --dry-run -n --json --callout --package --python --quiet -q" ;;
    uninstall) echo "--help --dry-run -n --json --force --package --quiet -q" ;;
    esac
}

# The values of the option, or of the key before the sign =, $1; fails if that takes none.
_apvfio_values() {
    case $1 in
    --color) echo "auto always never" ;;
    --remove | -r) echo "apmask aqmask" ;;
    --kernel) echo "6.1 6.12 7.2 7.3 draft-migration" ;;
    --any | --cards) echo "mode=" ;;
    --free-by) echo "adapters domains none" ;;
    mode=) echo "accel cca ep11" ;;
    --by-kernel) echo "never auto only" ;;
    --prefix) echo "/usr /usr/local" ;;
    --watch | *=) ;;
    *) _apvfio_takes_value "$1" ;;
    esac
}

# Whether the word after the option $1 is its value.
_apvfio_takes_value() {
    case $1 in
    --sim | --root | --xml | --connect | -c | --color | --adapter | --adapters | --domain | --domains | --any | --cards | \
        --control-domains | --free-by | --guest | --guests | --queue | --since | --until | --wait | --at | --migrate-uri | --back-uri | --by-kernel | \
        --timeout | --svg | \
        --output | --kernel | --node | --prefix | --python | --remove | -r | --if-state) ;;
    *) return 1 ;;
    esac
}

# Of the words $2... those that begin with $1. A guest's name is anybody's text: compgen -W would run
# what it holds in $(), so nothing here is expanded, and what a shell would read more into is quoted.
_apvfio_offer() {
    local begin=$1 word
    shift
    for word; do
        [[ -n $word && ($word == "$begin"* || $(printf '%q' "$word") == "$begin"*) ]] || continue
        case $word in
        *=) COMPREPLY+=("$word") ;;
        *) COMPREPLY+=("$(printf '%q' "$word")") ;;
        esac
    done
}

_apvfio_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$1" -- "$2")
}

# The last item of the list $1, which may have a sign, from the ids of the $3 of the host below $2.
_apvfio_list() {
    local begin='' item=${1##*,} id
    [[ $1 != *,* ]] || begin=${1%,*},
    [[ $item != [+-]* ]] || begin+=${item:0:1} item=${item:1}
    for id in $(_apvfio_ids "$2" "$3"); do
        [[ $id != "$item"* ]] || COMPREPLY+=("$begin$id")
    done
    # A list may go on.
    compopt -o nospace 2>/dev/null || :
}

_apvfio() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' arguments=0 i words names
    local root=${APVFIO_ROOT-} uri='' IFS=$' \t\n'
    # What a simulated host's file holds is not known without reading it all.
    [ -z "${APVFIO_SIM-}" ] || root=/dev/null
    for ((i = 1; i < COMP_CWORD; i++)); do
        if _apvfio_takes_value "${COMP_WORDS[i]}"; then
            words=${COMP_WORDS[i]}
            [ "${COMP_WORDS[i + 1]}" != = ] || i=$((i + 1))
            i=$((i + 1))
            names=${COMP_WORDS[i]}
            # bash takes the sign : for a word, too.
            while [[ $((i + 1)) -lt $COMP_CWORD && ${COMP_WORDS[i + 1]} == : ]]; do
                names+=:${COMP_WORDS[i + 2]}
                i=$((i + 2))
            done
            case $words in
            --root) root=$names ;;
            --sim) root=/dev/null ;;
            --connect | -c) uri=$names ;;
            esac
            continue
        fi
        case ${COMP_WORDS[i]} in
        -* | =) ;;
        *)
            case $command in
            '') command=${COMP_WORDS[i]} ;;
            guest | cluster | keys | policy | sim) command="$command ${COMP_WORDS[i]}" ;;
            *) arguments=$((arguments + 1)) ;;
            esac
            ;;
        esac
    done
    COMPREPLY=()
    # bash takes the sign = for a word: --color=never is three.
    if [ "$current" = = ]; then
        current='' previous="$previous="
    elif [ "$previous" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        previous="${COMP_WORDS[COMP_CWORD - 2]}="
    fi
    [[ $previous != -*= ]] || previous=${previous%=}
    case "$command $previous" in
    'sim new --adapters' | 'sim new --domains' | 'sim new --control-domains') ;;
    *' '--adapter | *' '--adapters | *' apmask=')
        _apvfio_list "$current" "$root" adapters
        return
        ;;
    *' '--domain | *' '--domains | *' '--control-domains | *' aqmask=')
        _apvfio_list "$current" "$root" domains
        return
        ;;
    'log --guest')
        mapfile -t names < <(_apvfio_guests "$uri")
        _apvfio_offer "$current" "${names[@]}"
        return
        ;;
    'log --queue')
        mapfile -t names < <(_apvfio_queues "$root")
        _apvfio_offer "$current" "${names[@]}"
        return
        ;;
    esac
    case $previous in
    --sim | --xml | --svg | --output | --python) _apvfio_files -f "$current" && return ;;
    --root | --guests) _apvfio_files -d "$current" && return ;;
    esac
    if words=$(_apvfio_values "$previous"); then
        command=''
    else
        words=$(_apvfio_words "$command")
    fi
    # shellcheck disable=SC2086
    _apvfio_offer "$current" $words
    [[ $current != -* && $arguments = 0 ]] || command=''
    case $command in
    status | doctor | plan | migrate | define | undefine | 'guest set' | 'guest clear' | 'guest show')
        mapfile -t names < <(_apvfio_guests "$uri")
        _apvfio_offer "$current" "${names[@]}"
        ;;
    release)
        mapfile -t names < <(_apvfio_holders "$root")
        _apvfio_offer "$current" "${names[@]}"
        ;;
    dump | 'cluster guest' | 'sim new' | 'sim start' | 'sim stop' | 'sim kill' | 'sim mount') _apvfio_files -f "$current" ;;
    esac
    # What the sign = stands behind goes on.
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}

complete -F _apvfio apvfio
