#!/usr/bin/env bash
# Installs what the tests need from Debian's packages, and runs all tests.
#
# Needs Rust (cargo, rustfmt, clippy) and a Debian or a derivative of it. Where it is not run by root it uses sudo; where
# there is no sudo either, Bochs is unpacked into the user's cache directory instead of being installed.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root=()
if [ "$(id -u)" != 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
fi

install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null &&
        echo "installed: $*"
}

say "Debian packages: Bochs 2.7 or newer, a C++ compiler for libFuzzer, a browser for the report"
missing=()
{ have bochs || have bochs-bin; } || missing+=(bochs bochs-term bochsbios vgabios)
have g++ || missing+=(g++)
have chromium || missing+=(chromium)
if [ ${#missing[@]} -gt 0 ]; then
    install "${missing[@]}"
fi

say "Debian packages for the boot image: GRUB, xorriso, mtools, QEMU and its UEFI"
missing=()
have grub-mkrescue || missing+=(grub-common)
[ -d /usr/lib/grub/i386-pc ] || missing+=(grub-pc-bin)
[ -d /usr/lib/grub/x86_64-efi ] || missing+=(grub-efi-amd64-bin)
have xorriso || missing+=(xorriso)
have mformat || missing+=(mtools)
have qemu-system-x86_64 || missing+=(qemu-system-x86)
[ -d /usr/share/OVMF ] || missing+=(ovmf)
if [ ${#missing[@]} -gt 0 ]; then
    install "${missing[@]}" || echo "not installed, tests that need them are skipped: ${missing[*]}"
fi

export RUSTFLAGS="${RUSTFLAGS:-} -Dwarnings" RUSTDOCFLAGS="-Dwarnings"
# What is built here is thrown away: link-time optimisation would take longer than it saves.
export CARGO_PROFILE_RELEASE_LTO=off

say "format"
cargo fmt --all --check

say "lints"
cargo clippy --workspace --all-targets --quiet

say "documentation"
cargo doc --workspace --no-deps --quiet

say "the model without std: the probe links it on bare metal, without an allocator"
cargo build --release --quiet
if rustc --print target-libdir --target x86_64-unknown-none >/dev/null 2>&1 &&
    [ -d "$(rustc --print target-libdir --target x86_64-unknown-none)" ]; then
    cargo build -p vmcs-model --target x86_64-unknown-none --quiet
fi

say "the checks: no panic, no allocation"
vmcs-model/examples/symbols.sh

say "Bochs 3.1 of Debian sid, unpacked for this user"
target/release/vmcs targets install bochs --suite sid

say "Linux 6.1 of Debian bookworm, for KVM inside Bochs"
target/release/vmcs targets install kvm-on-bochs --suite bookworm || echo "skipped: its packages could not be downloaded"
target/release/vmcs targets

say "tests"
cargo test --workspace --quiet --no-fail-fast

say "a minute of each fuzz target, two at a time"
# Coverage for libFuzzer, as `cargo fuzz --sanitizer none` asks for it; libFuzzer refuses to run without.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Ccodegen-units=1 -Cdebug-assertions"
coverage="$coverage --cfg fuzzing"
triple=x86_64-unknown-linux-gnu
RUSTFLAGS="$coverage" cargo build --release --quiet --target-dir target/fuzz --target $triple -p vmcs-fuzz-targets
fuzz() {
    local target=$1 options=() more=()
    case $target in
        entry_check) options=(-max_len=2048) ;;
        instructions | boundary) options=(-max_len=256) ;;
        formats) options=(-dict=fuzz/corpus/formats.dict) more=(cli/tests/dumps) ;;
    esac
    # New inputs go to the first directory; the others are seeds.
    mkdir -p target/fuzz/corpus/"$target"
    [ ! -d fuzz/corpus/"$target" ] || more+=(fuzz/corpus/"$target")
    target/fuzz/$triple/release/"$target" -max_total_time=60 -timeout=10 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="target/fuzz/$target-" "${options[@]}" \
        target/fuzz/corpus/"$target" "${more[@]}" 2>&1 | sed "s/^/$target: /"
}
for pair in "entry_check instructions" "formats boundary"; do
    running=() failed=0
    for target in $pair; do
        fuzz "$target" &
        running+=($!)
    done
    for pid in "${running[@]}"; do wait "$pid" || failed=1; done
    [ $failed = 0 ]
done

say "the boundary target's seeds on a machine"
# The seeds only, not what the targets above have found: that differs from run to run, and belongs in a campaign.
target/release/vmcs diff --corpus fuzz/corpus/boundary --target bochs@2.7 --cpu corei7_skylake_x

say "the model against recorded and live machines"
target/release/vmcs diff --target replay
target/release/vmcs diff --target bochs@2.7 --cpu corei7_skylake_x --cases 20000
target/release/vmcs diff --target bochs@3.1 --cpu wildcat_lake --cases 5000
target/release/vmcs diff --target bochs@3.1 --cpu arrow_lake --generator programs --cases 2000

say "the model against KVM inside Bochs"
if target/release/vmcs targets | grep -q '^kvm@bochs:bookworm'; then
    target/release/vmcs diff --target kvm@bochs:bookworm --cases 500
else
    echo "skipped: its packages are not installed"
fi

say "all passed"
