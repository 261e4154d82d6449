# SPDX-License-Identifier: Apache-2.0
# bash completion for apvfio(8): commands, options, and the names of guests and queues.
# shellcheck shell=bash

_apvfio_guests() {
    virsh --connect "${LIBVIRT_DEFAULT_URI:-qemu:///system}" list --all --name 2>/dev/null
}

_apvfio_holders() {
    apvfio status --json 2>/dev/null | sed -n 's/^ *"guest": "\(.*\)",\{0,1\}$/\1/p'
}

# What may follow the command and the verb $1; a word that ends in / or = is completed further below.
_apvfio_words() {
    case $1 in
    '') echo "--help --version --sim --root status queues plan guest define undefine masks mode reconcile
        release dump demo sim install uninstall" ;;
    status) echo "--help --json --color" ;;
    queues) echo "--help --json --no-headings -n" ;;
    plan) echo "--help --json --xml --connect -c --all"; _apvfio_guests ;;
    guest) echo "--help set clear show list" ;;
    'guest set') echo "--help --connect -c --adapters --domains --any --control-domains --config --live"; _apvfio_guests ;;
    'guest clear') echo "--help --connect -c --config --live"; _apvfio_guests ;;
    'guest show') echo "--help --connect -c --live --json"; _apvfio_guests ;;
    'guest list') echo "--help --connect -c --json" ;;
    define | undefine) echo "--help --xml --connect -c"; _apvfio_guests ;;
    masks) echo "--help --active -a --persistent -p --dry-run --json apmask= aqmask=" ;;
    mode) echo "--help --json masks overrides" ;;
    reconcile) echo "--help --json --wait --hand-over" ;;
    release) echo "--help --json --force"; _apvfio_holders ;;
    dump) echo "--help --force" ;;
    demo) echo "--help --in-process" ;;
    sim) echo "--help new mount" ;;
    'sim new') echo "--help --kernel --adapters --domains --control-domains --no-vfio-ap --force" ;;
    'sim mount') echo "--help" ;;
    install) echo "--help --prefix --dry-run -n --json --callout --python" ;;
    uninstall) echo "--help --prefix --dry-run -n --json --force" ;;
    esac
}

# The values of the option $1; fails if it takes none, or any.
_apvfio_values() {
    case $1 in
    --color) echo "auto always never" ;;
    --kernel) echo "6.1 6.12 7.2" ;;
    --any) echo "mode=accel mode=cca mode=ep11" ;;
    *) return 1 ;;
    esac
}

_apvfio() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' word i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --sim | --root | --xml | --connect | -c | --color | --adapters | --domains | --any | --control-domains | \
            --wait | --kernel | --prefix | --python) i=$((i + 1)) ;;
        -*) ;;
        *)
            case $command in
            '') command=$word ;;
            guest | sim) command="$command $word" ;;
            esac
            ;;
        esac
    done
    local IFS=$' \t\n'
    case $previous in
    --sim | --xml | --python) mapfile -t COMPREPLY < <(compgen -f -- "$current") && return ;;
    --root | --prefix) mapfile -t COMPREPLY < <(compgen -d -- "$current") && return ;;
    --connect | -c | --adapters | --domains | --control-domains | --wait) return ;;
    esac
    local words
    words=$(_apvfio_values "$previous") || words=$(_apvfio_words "$command")
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    case $command in
    dump | 'sim new' | 'sim mount') [[ $current = -* ]] || mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
    esac
    # A mask's name goes on behind its sign.
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}

complete -o filenames -F _apvfio apvfio
