#!/usr/bin/env bash
# bench/gpu.sh [OUT]   all there is to know from one GPU, in one call of under 9 minutes; results into OUT (bench/results/gpu-NAME by default)
#   1 build for the GPU at hand (needs what quickstart.sh installs, and nvcc); a build that is there already is used as it is when nothing can be installed
#   2 every op and the GPTQ goldens against ref, whole models against the CPU          ops.log
#   3 conform: a line per primitive, compared with the emulator's                      conform.txt
#   4 compute-sanitizer over a tiny model, where the tool is there                     sanitizer.log
#   5 decode and prompt speed of SmolLM2's shape, random weights                        decode.json
# Each step reports on its own; the exit code is 1 when one of them failed.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${NIBBLE_BUILD:-build/release}
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || { echo "gpu.sh: nvidia-smi shows no GPU; nothing to measure" >&2; exit 8; }
out=${1:-bench/results/gpu-$(tr -cs 'A-Za-z0-9' '-' <<<"$gpu" | sed 's/-$//')}
mkdir -p "$out"
export NIBBLE_MODULE_DIR=$PWD/$build LD_LIBRARY_PATH=$PWD/$build/lib:${LD_LIBRARY_PATH:-}
failed=0
step() { # name, seconds at most, log, command...
    local name=$1 most=$2 log=$3 start=$SECONDS
    shift 3
    if timeout "$most" "$@" >"$out/$log" 2>&1; then
        echo "ok    $name ($((SECONDS - start)) s)"
    else
        echo "FAIL  $name (exit $?, $((SECONDS - start)) s): $(tail -n 1 "$out/$log")"
        failed=1
    fi
}

build() {
    cmake --preset release -DNIBBLE_CUDA_ARCHS=auto && cmake --build --preset release -j "$(nproc)"
}

conform() { # the committed lines are the emulator's; lines that begin with ~ round and are compared by their samples
    local bin=$build/conform_gpu arch
    arch=sm_$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    [ "$arch" = sm_90 ] && arch=sm_90a # wgmma and TMA are in the a only
    [ -x "$bin" ] || nvcc -std=c++17 -arch="$arch" -Icuda tests/simt/conform.cu -o "$bin" || return 1
    "$bin" >"$out/conform.lines" && "$bin" tests/simt/conform.golden
}

decode() {
    [ -f "$build/shape.gguf" ] || "$build/bench/bench_shape" "$build/shape.gguf" q4_0 30 576 9 3 1536 49152 || return 1
    "$build/nibble" bench "$build/shape.gguf" --device cuda:0 -p 512 -n 64 -r 5 -o json
}

tests() {
    local t rc=0
    for t in "$build"/tests/ops/test_ops_* "$build"/tests/golden/test_golden_gptq "$build"/tests/golden/test_golden_device; do
        echo "== $t"
        "$t" || rc=1
    done
    return $rc
}

export -f build conform decode tests
export build out
{
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.mem --format=csv
    git log -1 --format='commit %h of %cs' 2>/dev/null
} >"$out/machine.txt"
if pkg-config --exists libpcre2-8 libutf8proc 2>/dev/null || [ ! -x "$build/nibble" ]; then
    step build 240 build.log bash -c build
else
    echo "      build: packages are missing, taking $build as it is"
fi
step 'ops and models' 200 ops.log bash -c tests
step conform 60 conform.txt bash -c conform
if command -v compute-sanitizer >/dev/null; then
    step sanitizer 100 sanitizer.log compute-sanitizer --error-exitcode 1 "$build/tests/golden/test_golden_device" 'on a GPU'
else
    echo "      sanitizer: compute-sanitizer is not there"
fi
step decode 100 decode.json bash -c decode
exit $failed
