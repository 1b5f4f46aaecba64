#!/usr/bin/env bash
# bench/gpu.sh [OUT]   all there is to know from one GPU, in one call of under 9 minutes; results into OUT (bench/results/GPU-DATE by default)
#   1 build for the GPU at hand (needs what quickstart.sh installs, and nvcc); a build that is there already is used as it is when nothing can be installed
#   2 every op and the GPTQ goldens against ref, whole models against the CPU                                        ops.log
#   3 conform: a line per primitive, compared with the emulator's                                                    conform.txt, conform.lines
#   4 compute-sanitizer, where it is there: memcheck and racecheck over small cases                                  memcheck.log, racecheck.log
#   5 linears of 4 bits at the shapes of a 70B model, beside what the device reads and multiplies and beside cuBLAS  kernels.json
#   6 the other formats at one of these shapes, mma.sync beside wgmma, a picture                                     formats.json, kernels.svg
#   7 peers through PyTorch at the same shapes, where python3 has it                                                 peers.json
#   8 decode of an 8B shape in Q4_0, random weights, at 1k of context on average, batch 1 and 32; SmolLM2's shape    decode.json
#   9 GPTQ of one layer of a 70B shape, random weights, 16 x 2048 of its 128 x 2048 tokens, with the drift correction and without it
#                                                                                                                    gptq.json, gptq-plain.json
# machine.txt says driver, nvcc, commit, clocks and date. Each step reports on its own: ok, FAIL, or skip with its reason; the exit code is 1 when one failed.
# Limits of the steps come to 535 s; what a step had written when its limit ended it stays.
# NIBBLE_REHEARSE=1: the same steps on the emulator, tiny shapes and few tests, with the build that is there: whether this script works, no figure of worth.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${NIBBLE_BUILD:-build/release}
device=cuda:0 rehearse=${NIBBLE_REHEARSE:-} models=$build/
if [ -n "$rehearse" ]; then
    device=simt gpu=rehearsal models=$build/rehearsal-
else
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
fi
[ -n "$gpu" ] || { echo "gpu.sh: nvidia-smi shows no GPU; nothing to measure" >&2; exit 8; }
out=${1:-bench/results/$(tr 'A-Z' 'a-z' <<<"$gpu" | tr -cs 'a-z0-9\n' '-')-$(date +%F)}
mkdir -p "$out"
export NIBBLE_MODULE_DIR=$PWD/$build LD_LIBRARY_PATH=$PWD/$build/lib:${LD_LIBRARY_PATH:-}
failed=0
reason() { # of a log: its last error, or how it ends
    grep -a -e 'error: ' -e 'does not open' "$1" | tail -n 1 | grep . || tail -n 1 "$1"
}
step() { # name, seconds at most, log, command...; the log is stdout and stderr, of NAME.json stdout alone
    local name=$1 most=$2 log=$3 start=$SECONDS rc=0 said=$3
    shift 3
    [ -z "$rehearse" ] || most=$((8 * most)) # the emulator takes its time
    if [[ $log = *.json ]]; then
        said=${log%.json}.err
        timeout -k 5 "$most" "$@" >"$out/$log" 2>"$out/$said" || rc=$?
    else
        timeout -k 5 "$most" "$@" >"$out/$log" 2>&1 || rc=$?
    fi
    case $rc in
    0) echo "ok    $name ($((SECONDS - start)) s)" ;;
    77) echo "skip  $name: $(reason "$out/$said")" ;;
    124 | 137) echo "FAIL  $name: not done within $most s" && failed=1 ;;
    *) echo "FAIL  $name (exit $rc, $((SECONDS - start)) s): $(reason "$out/$said")" && failed=1 ;;
    esac
    [ -s "$out/$said" ] || rm -f "$out/$said"
}

build() { # what the steps need, and nothing for the emulator
    cmake --preset release -DNIBBLE_CUDA_ARCHS=auto || return 1
    local tests
    tests=$(ninja -C "$build" -t targets all | grep -oE '^test_(ops_[a-z_]+|golden_(gptq|device))(: phony)' | sed 's/:.*//' | sort -u)
    cmake --build --preset release -j "$(nproc)" --target nibble_cli nibble_cuda bench_shape $tests
}

one_test() { # 77: skipped, which is no failure
    local rc=0
    "$@" >"$out/.$(basename "$1")" 2>&1 || rc=$?
    [ $rc = 77 ] && rc=0
    echo "== $* ($rc)" && cat "$out/.$(basename "$1")" && rm "$out/.$(basename "$1")"
    return $rc
}

tests() { # four at a time: ref computes on the CPU
    local all=("$build"/tests/ops/test_ops_* "$build/tests/golden/test_golden_gptq 'on a GPU'" "$build/tests/golden/test_golden_device 'on a GPU'")
    [ -z "$rehearse" ] || all=("$build"/tests/ops/test_ops_{norm,rope})
    printf '%s\n' "${all[@]}" | NIBBLE_OPS_ROWS=$device xargs -d '\n' -P 4 -I{} bash -c 'one_test {}' # 123 where one failed
}

conform() { # the committed lines are the emulator's; lines that begin with ~ round and are compared by their samples
    local bin=$build/conform_gpu cc
    [ -z "$rehearse" ] || { echo "the emulator's own lines are compared by its test"; return 77; }
    cc=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    [ "$cc" = 90 ] && cc=90a # wgmma and TMA are in the a only, and the shorthand -arch leaves open what else is built
    [ -x "$bin" ] || nvcc -std=c++17 -gencode "arch=compute_$cc,code=sm_$cc" -Icuda tests/simt/conform.cu -o "$bin" || return 1
    "$bin" >"$out/conform.lines" || { echo "conform does not run on this GPU ($?)"; return 1; }
    "$bin" tests/simt/conform.golden
}

sanitize() { # tool: small cases of ops, whose shared memory and barriers differ most, and a tiny model's steps
    local t rc=0
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there"; return 77; }
    for t in norm gptq_sweep; do
        echo "== $1 $t"
        NIBBLE_OPS_ROWS=$device compute-sanitizer --tool "$1" --error-exitcode 1 "$build/tests/ops/test_ops_$t" 'every' || rc=1
    done
    echo "== $1 linear"
    NIBBLE_OPS_ROWS=$device compute-sanitizer --tool "$1" --error-exitcode 1 "$build/tests/ops/test_ops_linear" 'every kind of weight' || rc=1
    echo "== $1 run"
    compute-sanitizer --tool "$1" --error-exitcode 1 "$build/nibble" run tests/data/models/tiny-llama --device $device --ids 1,2,3,4,5,6,7,8,9 -n 4 || rc=1
    echo "== $1 attention" # last: the most cases
    NIBBLE_OPS_ROWS=$device compute-sanitizer --tool "$1" --error-exitcode 1 "$build/tests/ops/test_ops_attention" 'every' || rc=1
    return $rc
}

shapes() { # random models; written while the tests run, which need no disk
    if [ -n "$rehearse" ]; then
        "$build/bench/bench_shape" "${models}shape-8b.gguf" q4_0 1 128 2 1 256 512 && "$build/bench/bench_shape" "${models}shape.gguf" q4_0 1 128 2 1 256 512 &&
            "$build/bench/bench_shape" "${models}layer-70b.gguf" bf16 1 128 2 1 128 300
        return
    fi
    [ -f "${models}layer-70b.gguf" ] || "$build/bench/bench_shape" "${models}layer-70b.gguf" bf16 1 8192 64 8 28672 1024 || return 1
    [ -f "${models}shape.gguf" ] || "$build/bench/bench_shape" "${models}shape.gguf" q4_0 30 576 9 3 1536 49152 || return 1
    [ -f "${models}shape-8b.gguf" ] || "$build/bench/bench_shape" "${models}shape-8b.gguf" q4_0 32 4096 32 8 14336 128256
}

decode() { # 2048 tokens from an empty cache: 1024 of context on average
    local n=2048 few=64
    [ -z "$rehearse" ] || n=2 few=2
    "$build/nibble" bench "${models}shape-8b.gguf" --device $device -p 0 -n $n -b 1,32 -r 1 -o json &&
        "$build/nibble" bench "${models}shape.gguf" --device $device -p $((8 * few)) -n $few -r 3 -o json
}

rows() { # --kind K --shape S -m M: lines of json
    "$build/nibble" bench kernels --device $device -o json "$@"
}

kernels() { # the formats of the table of speeds: attention's and the feed-forward's shape of a 70B model; attention of an 8B model
    local kind shape shapes='8192x28672 8192x8192' m=1,16,32,64,128,256,1024,8192 prompt='8192' context=4096 heads=32x8x128
    [ -z "$rehearse" ] || shapes=128x256 m=1,33 prompt=70 context=130 heads=4x2x64
    rows --op attention --shape $heads -m 1,32 -c $context --kind f16 && rows --op attention --shape $heads -m 32 -c $context --kind q8 &&
        rows --op prefill --shape $heads -m $prompt --kind f16 || return 1
    for shape in $shapes; do
        for kind in int4g128sym int4g128 q4_0 nf4; do
            rows --kind $kind --shape "$shape" -m $m || return 1
        done
    done
}

formats() {
    local kind shape=8192x8192 m=1,16,256 large=128,256,1024 picture=1,16,64,256,1024
    [ -z "$rehearse" ] || shape=128x256 m=1 large=130 picture=1
    for kind in q4_k mxfp4 q8_0 bf16 q6_k iq4_nl; do
        rows --kind $kind --shape $shape -m $m || return 1
        [ -z "$rehearse" ] || break
    done
    NIBBLE_WGMMA=0 rows --kind int4g128sym --shape $shape -m $large || return 1 # Hopper's rows against those of mma.sync
    "$build/nibble" bench kernels --device $device --kind int4g128sym --shape $shape -m $picture -o svg >"$out/kernels.svg"
}

peers() {
    python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null || { echo "python3 has no torch that sees a GPU" >&2; return 77; }
    python3 bench/peers.py
}

gptq() { # --correction C: "seconds" of the whole, one layer
    local size='--samples 16 --ctx 2048'
    [ -z "$rehearse" ] || size='--samples 2 --ctx 32'
    rm -rf "${models}layer-70b.out" "${models}layer-70b.out.nibble"
    "$build/nibble" quantize "${models}layer-70b.gguf" -o "${models}layer-70b.out" --format gptq --method gptq --bits 4 --group 128 --calib tests/data/text/eval-own.txt $size --correction "$1" \
        --device $device --json
    local rc=$?
    rm -rf "${models}layer-70b.out"
    return $rc
}

export -f build one_test tests conform sanitize shapes decode rows kernels formats peers gptq
export build out device rehearse models
{
    echo "date $(date -u +%FT%TZ)"
    git log -1 --format='commit %H of %cs' 2>/dev/null
    [ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || echo "with changes that are not committed"
    nvcc --version 2>/dev/null | grep release
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.mem,clocks.sm,clocks.mem,power.limit --format=csv 2>/dev/null
    grep -m 1 'model name' /proc/cpuinfo
    nproc
} >"$out/machine.txt"
if [ -n "$rehearse" ]; then
    echo "      build: a rehearsal, taking $build as it is"
elif pkg-config --exists libpcre2-8 libutf8proc 2>/dev/null || [ ! -x "$build/nibble" ]; then
    step build 130 build.log bash -c build
else
    echo "      build: packages are missing, taking $build as it is"
fi
timeout 100 bash -c shapes >"$out/shapes.log" 2>&1 &
step 'ops and models' 70 ops.log bash -c tests
step conform 20 conform.txt bash -c conform
step memcheck 25 memcheck.log bash -c 'sanitize memcheck'
step racecheck 25 racecheck.log bash -c 'sanitize racecheck'
wait || echo "      shapes: $(tail -n 1 "$out/shapes.log")"
step kernels 80 kernels.json bash -c kernels
step 'other formats' 35 formats.json bash -c formats
step peers 30 peers.json bash -c peers
step decode 60 decode.json bash -c decode
step 'GPTQ of a 70B layer' 30 gptq.json bash -c 'gptq 1'
step 'the same without correction' 30 gptq-plain.json bash -c 'gptq 0'
nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,clocks_throttle_reasons.active --format=csv >>"$out/machine.txt" 2>/dev/null
[ -s "$out/shapes.log" ] || rm -f "$out/shapes.log"
exit $failed
