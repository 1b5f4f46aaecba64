#!/usr/bin/env bash
# bench/gpu.sh [OUT]   all there is to know from one GPU, in one call of under 9 minutes; results into OUT (bench/results/gpu-NAME by default)
#   1 build for the GPU at hand (needs what quickstart.sh installs, and nvcc); a build that is there already is used as it is when nothing can be installed
#   2 every op and the GPTQ goldens against ref, whole models against the CPU          ops.log
#   3 conform: a line per primitive, compared with the emulator's                      conform.txt
#   4 compute-sanitizer over a tiny model, where the tool is there                     sanitizer.log
#   5 decode and prompt speed of SmolLM2's shape, random weights                        decode.json
#   6 linear by format and number of tokens beside what the device reads and multiplies, and beside cuBLAS where it is there      kernels.json, kernels.svg
#   7 GPTQ of one layer of a 70B shape, random weights, 16 x 2048 of its 128 x 2048 tokens                                          gptq.json
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

kernels() { # each kind at the shapes of a 70B model's attention and feed-forward; rows, then the same as a picture of one of them
    local kind shape
    for kind in int4g128 q4_0 iq4_nl q8_0 bf16; do
        for shape in 8192x8192 8192x28672; do
            "$build/nibble" bench kernels --device cuda:0 --kind "$kind" --shape "$shape" -m 1,8,16,32,64,128,256,1024,8192 -o json || return 1
        done
    done
    NIBBLE_WGMMA=0 "$build/nibble" bench kernels --device cuda:0 --kind int4g128 --shape 8192x8192 -m 128,256,1024 -o json || return 1 # Hopper's rows against those of mma.sync
    "$build/nibble" bench kernels --device cuda:0 --shape 8192x8192 -m 1,16,64,256,1024 -o svg >"$out/kernels.svg"
}

gptq() {
    [ -f "$build/layer-70b.gguf" ] || "$build/bench/bench_shape" "$build/layer-70b.gguf" bf16 1 8192 64 8 28672 1024 || return 1
    "$build/nibble" quantize "$build/layer-70b.gguf" -o "$build/layer-70b.out" --format gptq --bits 4 --group 128 --calib tests/data/text/eval-own.txt --samples 16 --ctx 2048 \
        --device cuda:0 --restart --json && rm -r "$build/layer-70b.out"
}

export -f build conform decode kernels gptq tests
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
step kernels 150 kernels.json bash -c kernels
step 'GPTQ of a 70B layer' 150 gptq.json bash -c gptq
exit $failed
