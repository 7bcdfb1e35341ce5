#!/usr/bin/env bash
# Shows that the checks neither allocate nor panic: what the functions of `symbols.rs` reach is linked with nothing that
# can do either.
#
# Needs cargo, and nm and ld of the GNU binutils.
set -euo pipefail
cd "$(dirname "$0")/.."

# Machine code instead of bitcode for a later link.
export CARGO_PROFILE_RELEASE_LTO=off
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/symbols
cargo build --release --quiet --example symbols --target-dir "$target"

rlib=$target/release/examples/libsymbols.rlib
roots=$(nm --defined-only "$rlib" 2>/dev/null | awk '$2 == "T" && /7symbols[0-9]/ {print $3}')
functions=$(grep -c '^pub fn' examples/symbols.rs)
[ "$(wc -w <<<"$roots")" = "$functions" ] || { echo "expected $functions functions, found: $roots" >&2; exit 1; }

entry=${roots%%$'\n'*}
# Neither the standard library nor `core` is linked: what is reached of them is undefined. Compilers may call the
# functions on memory.
ld --gc-sections -e "$entry" $(printf -- '-u %s ' $roots) -o "$target/checks" \
    $(printf -- '--defsym %s=0 ' memcpy memmove memset memcmp bcmp) \
    "$rlib" --start-group "$target"/release/deps/lib{vmcs_model,bitflags}-*.rlib --end-group ||
    { echo "the checks reach what ld calls undefined, which panics or allocates" >&2; exit 1; }
echo "the checks neither allocate nor panic"
