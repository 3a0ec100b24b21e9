# What the commands of this folder share: flags, gcloud, the ledger.
# shellcheck shell=bash

if ((BASH_VERSINFO[0] < 5)); then
    echo "error: bash $BASH_VERSION is too old: bash 5 is needed." >&2
    exit 2
fi

here=$(dirname "$0")

# Exit codes of all commands here: gcloud or an option is wrong; there is no
# such TPU; the cloud has no capacity or does not answer, so try again.
readonly MISTAKE=2 GONE=44 TRY_AGAIN=75

# The flags' values. A switch that is given is 1, a flag that is not is empty.
declare -A flag=()
# The arguments of the training, which follow `--`.
training=()

fail() {
    echo "error: $*" >&2
    exit "$MISTAKE"
}

# Prints the comment at the top of the command.
print_help() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
}

# parse_flags VALUES SWITCHES ARGUMENT…
#   VALUES    flags that take a value, beside --name, --zone and --project
#   SWITCHES  flags that take none, beside --dry_run; `--` if the arguments
#             of the training may follow
# Exits with 2 if an argument is wrong.
parse_flags() {
    local values=" name zone project $1 " switches=" dry_run $2 "
    local argument key
    for key in $values $switches; do
        flag[$key]=${flag[$key]-}
    done
    shift 2
    while (($#)); do
        argument=$1
        shift
        key=${argument#--}
        key=${key%%=*}
        if [[ $argument == -h || $argument == --help ]]; then
            print_help
            exit 0
        elif [[ $argument == -- && $switches == *" -- "* ]]; then
            training=("$@")
            break
        elif [[ $argument != --?* ]]; then
            fail "unknown argument ${argument@Q} (--help lists the flags)"
        elif [[ $argument == --?*=?* && $values == *" $key "* ]]; then
            flag[$key]=${argument#*=}
        elif [[ $argument == "--$key" && $switches == *" $key "* ]]; then
            flag[$key]=1
        elif [[ $values == *" $key "* ]]; then
            fail "$argument has no value: write --$key=VALUE."
        elif [[ $switches == *" $key "* ]]; then
            fail "$argument: --$key takes no value."
        else
            fail "unknown argument ${argument@Q} (--help lists the flags)"
        fi
    done
    require_flags name zone
    require_format name '[a-z]([-a-z0-9]*[a-z0-9])?' "such as my-tpu"
    require_format zone '[a-z]+-[a-z]+[0-9]+-[a-z]' "such as us-west4-a"
    where=("--name=${flag[name]}" "--zone=${flag[zone]}")
    folder=${XDG_STATE_HOME:-$HOME/.local/state}/bert_pretrain
    folder+=/${flag[name]}.${flag[zone]}
    if [[ ${flag[project]} ]]; then
        require_format project '[-a-z0-9.:]+' "such as my-project"
        where+=("--project=${flag[project]}")
        folder+=.${flag[project]}
    fi
    readonly where folder
    if [[ ! ${flag[dry_run]} ]]; then
        type gcloud > /dev/null 2>&1 ||
            fail "gcloud is not installed: https://cloud.google.com/sdk"
        mkdir -p "$folder"
    fi
}

require_flags() {
    local key
    for key; do
        [[ ${flag[$key]} ]] ||
            fail "--$key must be given (--help lists the flags)."
    done
}

# The arguments of the training must be there, without those that are added.
require_training() {
    ((${#training[@]})) ||
        fail "no arguments of the training: they follow --, after a space."
    local argument
    for argument in "${training[@]}"; do
        [[ ! $argument =~ ^--?tpu(=|$) ]] ||
            fail "$argument: launch/start adds --tpu."
    done
}

# require_format FLAG PATTERN EXAMPLE
require_format() {
    [[ ${flag[$1]} =~ ^$2$ ]] ||
        fail "--$1=${flag[$1]}: not of the right form, $3."
}

# Refuses the flags that are no whole numbers.
require_numbers() {
    local key
    for key; do
        require_format "$key" '(0|[1-9][0-9]*)' "a whole number"
    done
}

# Refuses a flag that is no time in seconds.
require_seconds() {
    require_format "$1" '[0-9]+([.][0-9]+)?' "a number of seconds"
}

# Makes --commit the name of a commit that does not change.
resolve_commit() {
    local commit
    commit=$(git -C "$here" rev-parse --quiet --verify \
        "${flag[commit]}^{commit}" 2> /dev/null) ||
        fail "--commit=${flag[commit]}: no such commit in $here, or it is no" \
            "clone by git."
    flag[commit]=$commit
}

# Prints words as a line that a shell reads as the same words.
quote() {
    local word line=
    for word; do
        if [[ $word =~ ^[-A-Za-z0-9_@%+=:,./]+$ ]]; then
            line+=" $word"
        else
            line+=" ${word@Q}"
        fi
    done
    echo "${line# }"
}

# Runs a command; with --dry_run prints it instead, to be pasted into a shell.
run() {
    if [[ ${flag[dry_run]} ]]; then
        quote "$@"
    else
        "$@"
    fi
}

# Runs `gcloud compute tpus`. What gcloud prints goes where it would go.
# Returns 0, MISTAKE, GONE or TRY_AGAIN.
tpus() {
    local command=(gcloud compute tpus "$@" "--zone=${flag[zone]}" --quiet)
    if [[ ${flag[project]} ]]; then
        command+=("--project=${flag[project]}")
    fi
    if [[ ${flag[dry_run]} ]]; then
        quote "${command[@]}"
        return
    fi
    local message code=0
    message=$(mktemp)
    # The errors go to the user as they come, and into a file.
    { "${command[@]}" 2>&1 >&3 3>&- < /dev/null | tee "$message" >&2; } 3>&1 ||
        code=$?
    if ((code)); then
        code=$(kind_of_failure "$code" "$(< "$message")")
    fi
    rm -f "$message"
    return "$code"
}

# Runs a command, and keeps gcloud's words to itself if it succeeds or if what
# it asks for is not there.
quietly() {
    local message code=0
    message=$(mktemp)
    "$@" 2> "$message" || code=$?
    ((code == 0 || code == GONE)) || cat "$message" >&2
    rm -f "$message"
    return "$code"
}

# kind_of_failure CODE MESSAGE: prints MISTAKE, GONE or TRY_AGAIN, for gcloud's
# exit code and its words. The numbers are of google.rpc.Code. What is unknown
# is worth another try: an internal error (13) is often a lack of capacity.
kind_of_failure() {
    if (($1 == 2)); then
        echo "$MISTAKE" # gcloud's own flags, or a command of ours on the VM
    elif [[ $2 =~ NOT_FOUND|'"code": 5,' ]]; then
        echo "$GONE"
    elif [[ $2 =~ 'per minute'|RATE_LIMIT ]]; then
        echo "$TRY_AGAIN"
    elif [[ $2 =~ [Qq]uota|'reached '.*' limit'|PERMISSION_DENIED ||
        $2 =~ INVALID_ARGUMENT|UNAUTHENTICATED|ALREADY_EXISTS ||
        $2 =~ '"code": '(3|6|7|16), ||
        $2 =~ 'SSH Key is not present'|'Permission denied (publickey' ||
        $2 =~ 'valid credentials' ]]; then
        echo "$MISTAKE"
    else
        echo "$TRY_AGAIN"
    fi
}

# Prints fields of the TPU, separated by tabs; lists are separated by `;`.
describe() {
    tpus tpu-vm describe "${flag[name]}" --format="value($1)"
}

# Prints the state of the queued resource of the same name.
queue_state() {
    tpus queued-resources describe "${flag[name]}" \
        --format="value(state.state)"
}

# A connection to a machine that was taken away ends after a minute.
readonly CONNECTION=(-oConnectTimeout=30 -oServerAliveInterval=20
    -oServerAliveCountMax=3)

# on_vm WORKER COMMAND: lets a shell of the VM run a line. WORKER is a number
# or `all`.
on_vm() {
    tpus tpu-vm ssh "${flag[name]}" "--worker=$1" "--command=$2" \
        "${CONNECTION[@]/#/--ssh-flag=}"
}

# Asks the VM for the state of the training whose arguments are given, or of
# any. Prints `not installed`, or what vm/state prints.
training_state() {
    local command
    command=$(quote bert-pretrain/launch/vm/state "${training[@]}")
    command="if [ -e installed ]; then $command; else echo not installed; fi"
    quietly on_vm 0 "$command"
}

# Copies files to the home folders of all hosts.
send() {
    tpus tpu-vm scp "$@" "${flag[name]}:" --worker=all \
        "${CONNECTION[@]/#/--scp-flag=}"
}

# Writes machine.tsv, which tells a host of what machine it is: the type, the
# image, the addresses of all hosts.
describe_machine() {
    local fields=acceleratorType,runtimeVersion,networkEndpoints[].ipAddress
    run mkdir -p "$folder"
    if [[ ${flag[dry_run]} ]]; then
        echo "$(describe "$fields") > $(quote "$folder/machine.tsv")"
    else
        describe "$fields" > "$folder/machine.tsv"
    fi
}

# ------------------------------------------------------------------ ledger

# Lines of `time created accelerator_type createTime` or `time ended`, with
# tabs between; the time in seconds since 1970.
ledger() {
    echo "$folder/ledger.tsv"
}

# Notes the TPU that is there, once. Returns what `describe` returns.
note_creation() {
    local line created accelerator_type
    line=$(describe createTime,acceleratorType) || return
    if [[ ${flag[dry_run]} ]]; then
        echo "$line"
        return
    fi
    IFS=$'\t' read -r created accelerator_type <<< "$line"
    touch "$(ledger)"
    grep --quiet --fixed-strings "$created" "$(ledger)" ||
        printf '%s\tcreated\t%s\t%s\n' "$(date --date="$created" +%s)" \
            "${accelerator_type##*/}" "$created" >> "$(ledger)"
}

# Notes that the TPU is there no longer.
note_end() {
    if [[ -s $(ledger) && $(tail --lines=1 "$(ledger)") == *created* ]]; then
        printf '%s\tended\n' "$EPOCHSECONDS" >> "$(ledger)"
    fi
}
