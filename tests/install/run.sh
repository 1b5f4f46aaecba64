#!/usr/bin/env bash
# run.sh BUILD SOURCE MODEL   Installs BUILD into a fresh folder, moves that folder (nothing may know where it was), builds SOURCE/example.c
# once with pkg-config and once with find_package, example.cpp with pkg-config, and wants the same 8 tokens from all of them and from the installed program.
set -euo pipefail
build=$1 source=$2 model=$3
: "${CC:=cc}" "${CXX:=c++}" "${CMAKE:=cmake}" "${EXTRA_FLAGS:=}"
command -v pkg-config >/dev/null || { echo "skipped: pkg-config is missing"; exit 77; }
folder=$(mktemp -d "$build/test-install.XXXXXX")
trap 'rm -rf "$folder"' EXIT
fail() { echo "install: $*" >&2; exit 1; }

"$CMAKE" --install "$build" --prefix "$folder/first" >"$folder/log" || { cat "$folder/log"; fail "cmake --install"; }
mv "$folder/first" "$folder/prefix"
prefix=$folder/prefix
program=$prefix/bin/nibble
[ -x "$program" ] || fail "no program in bin"
pc=$(find "$prefix" -name nibble.pc)
[ -n "$pc" ] || fail "no nibble.pc"
for header in "$prefix"/include/*.h; do # each stands alone, in C and in C++
    "$CC" -std=c17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c "$header" || fail "$header does not compile as C"
    "$CC" -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++ "$header" || fail "$header does not compile as C++"
done

mkdir "$folder/pc" "$folder/find"
# shellcheck disable=SC2046,SC2086 # lists of flags
PKG_CONFIG_PATH=$(dirname "$pc") && export PKG_CONFIG_PATH
"$CC" -std=c17 -Wall -Wextra -Wpedantic -Werror $EXTRA_FLAGS $(pkg-config --cflags nibble) "$source/example.c" \
    -o "$folder/pc/example" $(pkg-config --static --libs nibble) || fail "pkg-config"
if command -v "$CXX" >/dev/null; then
    # shellcheck disable=SC2046,SC2086
    "$CXX" -std=c++17 -Wall -Wpedantic -Werror $EXTRA_FLAGS $(pkg-config --cflags nibble) "$source/example.cpp" \
        -o "$folder/pc/example_cpp" $(pkg-config --static --libs nibble) || fail "C++"
else
    echo "install: $CXX is missing, so the headers were not tried in a C++ program"
fi
unset PKG_CONFIG_PATH

cp "$source/example.c" "$folder/find/"
cp "$source/consumer.cmake" "$folder/find/CMakeLists.txt"
{ "$CMAKE" -S "$folder/find" -B "$folder/find/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$CC" -DCMAKE_C_FLAGS="$EXTRA_FLAGS" &&
    "$CMAKE" --build "$folder/find/build"; } >"$folder/log" 2>&1 || { cat "$folder/log"; fail "find_package"; }

one=$("$folder/pc/example" "$model") || fail "the example of pkg-config ended with $?"
two=$("$folder/find/build/example" "$model") || fail "the example of find_package ended with $?"
three=$("$program" run "$model" -p "the heath" --raw -n 8 --ignore-eos -t 1 --device cpu --json) || fail "the program ended with $?"
[ "$(wc -w <<<"$one")" = 8 ] || fail "not 8 tokens: $one"
[ "$one" = "$two" ] || fail "pkg-config gives $one, find_package $two"
grep -qF "\"tokens\":[${one// /,}]" <<<"$three" || fail "the example gives $one, the program $three"
if [ -x "$folder/pc/example_cpp" ]; then
    four=$("$folder/pc/example_cpp" "$model") || fail "the example in C++ ended with $?"
    [ "$one" = "$four" ] || fail "C gives $one, C++ $four"
fi
if "$folder/pc/example" "$folder/none" 2>"$folder/log"; then fail "a missing model is no error"; fi
grep -q 'cannot open' "$folder/log" || fail "a missing model has no sentence"
echo "install: both examples and the program say $one"
