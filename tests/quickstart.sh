#!/usr/bin/env bash
# quickstart.sh -- where the README's command takes its model from, each way it can go: its own functions, against the fake hub.
#
#   tests/quickstart.sh BUILD     BUILD holds nibble and tests/hub/fake_hub
# shellcheck disable=SC2034,SC2154,SC2317 # variables and functions are shared with the script it tests
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
tmp=$(mktemp -d "${TMPDIR:-/tmp}/nibble-quickstart.XXXXXX")
hub_pid=
leave() {
    [ -z "$hub_pid" ] || kill "$hub_pid" 2>/dev/null || true
    rm -rf "$tmp"
}
trap leave EXIT
# shellcheck source=quickstart.sh disable=SC1091
. ./quickstart.sh

# The hub has tiny-llama under the model's name.
mkdir -p "$tmp/repos/$hub_repo"
cp tests/data/models/tiny-llama/*.json tests/data/models/tiny-llama/model.safetensors "$tmp/repos/$hub_repo"
right=$(sha256sum tests/data/models/tiny-llama/model.safetensors | cut -d' ' -f1)
published=$hub_sha

rc=0
HF_ENDPOINT=http://127.0.0.1:1 HF_HOME=$tmp/none "$build/nibble" pull a/b 2>"$tmp/err" || rc=$?
if [ $rc = 5 ]; then # no libcurl
    cat "$tmp/err"
    exit 77
fi

failed=0
says() { # what is, what should be, of what
    if [ "$1" != "$2" ]; then
        echo "FAIL  $3: \"$1\", expected \"$2\"" >&2
        failed=$((failed + 1))
    else
        echo "ok    $3: $1"
    fi
}

# name, fault of the hub ("none": nothing listens, "sound": none), sha256 that is expected, does quantize take a folder, the outcome
try() {
    local name=$1 fault=$2 sha=$3 takes=$4 outcome=$5 port=1
    rm -rf "${tmp:?}/home" "$tmp/port"
    if [ "$fault" != none ]; then
        mkfifo "$tmp/in"
        "$build/tests/hub/fake_hub" "$tmp/repos" "$tmp/port" "$fault" <"$tmp/in" &
        hub_pid=$!
        exec 9>"$tmp/in"
        while [ ! -f "$tmp/port" ]; do
            kill -0 "$hub_pid" # ends this when the hub is gone
            sleep 0.05
        done
        port=$(cat "$tmp/port")
    fi
    says "$(
        export HF_ENDPOINT=http://127.0.0.1:$port HF_HOME=$tmp/home NIBBLE_PULL_WAIT_MS=1 no_proxy=127.0.0.1
        unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_TOKEN HF_HUB_OFFLINE
        nibble=$build/nibble out=$tmp hub_sha=$sha hub_seconds=${seconds:-20} model=package.gguf
        eval "quantizes() { $takes; }"
        from_package() { :; }
        fetch_model 2>"$tmp/err"
        echo "$model_is $(basename "$model")"
    )" "$outcome" "$name"
    if [ "${outcome%% *}" = Q4_1 ]; then # one plain line says why, no error of a command whose failure is none of the reader's
        says "$(grep -c '^== .*; the package on PyPI is used instead (Q4_1)$' "$tmp/err") $(grep -c 'error:\|hint:' "$tmp/err" || true)" "1 0" "$name: one line says so"
        says "$(grep -c "^== $why" "$tmp/err")" 1 "$name: with the reason"
        sed -n 's/^== \(.*; the package\)/      \1/p' "$tmp/err"
    fi
    if [ -n "$hub_pid" ]; then
        exec 9>&-
        wait "$hub_pid" || true
        hub_pid=
        rm -f "$tmp/in"
    fi
}

try 'the hub has it' sound "$right" true "BF16 $hub_revision"
why='this build quantizes no folders;'
try 'this build quantizes no folder' sound "$right" false 'Q4_1 package.gguf'
why="this build does not quantize the hub's folder;"
# shellcheck disable=SC2016
try 'it quantizes some folders, not this one' sound "$right" '[ "$1" = tests/data/models/tiny-llama ]' 'Q4_1 package.gguf'
why='the hub was not reached (.\+);'
try 'no hub' none "$right" true 'Q4_1 package.gguf'
why='the hub does not give the model (.\+);'
try 'a hub that is down' down "$right" true 'Q4_1 package.gguf'
try 'a hub that cuts' cut "$right" true 'Q4_1 package.gguf'
try 'a hub with wrong bytes' wrong "$right" true 'Q4_1 package.gguf'
why='model.safetensors of the hub does not have the expected sha256;'
try 'a hub with another model under that name' sound "$published" true 'Q4_1 package.gguf'
seconds=1 why='the hub was not reached (it took more than 1 s);'
try 'a hub that does not answer' stall "$right" true 'Q4_1 package.gguf'
seconds=
why='the hub does not give the model (.\+);'
hub_repo=nobody/nothing
try 'a hub without it' sound "$right" true 'Q4_1 package.gguf'
[ $failed = 0 ]
