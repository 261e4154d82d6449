# SPDX-License-Identifier: Apache-2.0
# bash completion for apvfio(8): commands, options, and the names of guests.
# shellcheck shell=bash

_apvfio_guests() {
    virsh --readonly --connect "${LIBVIRT_DEFAULT_URI:-qemu:///system}" list --all --name 2>/dev/null
}

# Names that JSON has to escape are left to be typed, or named by their uuids.
_apvfio_holders() {
    apvfio status --json 2>/dev/null | sed -n 's/^ *"guest": "\([^"\\]*\)",\{0,1\}$/\1/p'
}

# What may follow the command and the verb $1.
_apvfio_words() {
    case $1 in
    '') echo "--help --version --sim --root status doctor queues plan guest migrate incoming define undefine masks
        mode reconcile release dump demo sim install uninstall" ;;
    status) echo "--help --json --color --watch --svg --html" ;;
    doctor) echo "--help --json --xml --connect -c" ;;
    migrate) echo "--help --json --connect -c --at --migrate-uri --tls --timeout --keep-definition --other-keys
        --back --dry-run -n" ;;
    incoming) echo "--help --json --dry-run -n --give-up" ;;
    queues) echo "--help --json --no-headings -n" ;;
    plan) echo "--help --json --xml --connect -c --all" ;;
    guest) echo "--help set clear show list" ;;
    'guest set') echo "--help --json --connect -c --adapters --domains --any --control-domains --no-hostdev
        --unchecked --config --live --dry-run" ;;
    'guest clear') echo "--help --json --connect -c --keep-hostdev --config --live --dry-run" ;;
    'guest show') echo "--help --connect -c --live --json" ;;
    'guest list') echo "--help --connect -c --json" ;;
    define) echo "--help --xml --connect -c --replace" ;;
    undefine) echo "--help --xml --connect -c" ;;
    masks) echo "--help --active -a --persistent -p --remove -r --dry-run --json apmask= aqmask=" ;;
    mode) echo "--help --json masks overrides" ;;
    reconcile) echo "--help --json --wait --hand-over --dry-run -n" ;;
    release) echo "--help --json --force --dry-run -n" ;;
    dump) echo "--help --force" ;;
    demo) echo "--help --in-process" ;;
    sim) echo "--help new mount" ;;
    'sim new') echo "--help --kernel --adapters --domains --control-domains --no-vfio-ap --force" ;;
    'sim mount') echo "--help" ;;
    install) echo "--help --prefix --dry-run -n --json --callout --package --python" ;;
    uninstall) echo "--help --dry-run -n --json --force" ;;
    esac
}

# The values of the option, or of the key before the sign =, $1; fails if that takes none.
_apvfio_values() {
    case $1 in
    --color) echo "auto always never" ;;
    --remove | -r) echo "apmask aqmask" ;;
    --kernel) echo "6.1 6.12 7.2" ;;
    --any) echo "mode=" ;;
    mode=) echo "accel cca ep11" ;;
    --prefix) echo "/usr /usr/local" ;;
    --connect | -c | --adapters | --domains | --control-domains | --wait | --watch | --at | --migrate-uri | --timeout | *=) ;;
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

_apvfio() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' i words names
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --sim | --root | --xml | --connect | -c | --color | --adapters | --domains | --any | --control-domains | \
            --wait | --at | --migrate-uri | --timeout | --svg | --html | --kernel | --prefix | --python | --remove | -r)
            [ "${COMP_WORDS[i + 1]}" != = ] || i=$((i + 1))
            i=$((i + 1))
            ;;
        -* | =) ;;
        *)
            case $command in
            '') command=${COMP_WORDS[i]} ;;
            guest | sim) command="$command ${COMP_WORDS[i]}" ;;
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
    case $previous in
    --sim | --xml | --svg | --html | --python) _apvfio_files -f "$current" && return ;;
    --root) _apvfio_files -d "$current" && return ;;
    esac
    if words=$(_apvfio_values "$previous"); then
        command=''
    else
        words=$(_apvfio_words "$command")
    fi
    # shellcheck disable=SC2086
    _apvfio_offer "$current" $words
    case $command in
    doctor | plan | migrate | define | undefine | 'guest set' | 'guest clear' | 'guest show')
        mapfile -t names < <(_apvfio_guests)
        _apvfio_offer "$current" "${names[@]}"
        ;;
    release)
        mapfile -t names < <(_apvfio_holders)
        _apvfio_offer "$current" "${names[@]}"
        ;;
    dump | 'sim new' | 'sim mount') [[ $current == -* ]] || _apvfio_files -f "$current" ;;
    esac
    # What the sign = stands behind goes on.
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}

complete -F _apvfio apvfio
