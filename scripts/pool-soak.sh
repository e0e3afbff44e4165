#!/bin/sh
# Runs `true` many times, several at once, against a small pool, and shows what the pool holds before and after:
# descriptors, net namespaces that any process of the machine holds, resident memory.
#
# scripts/pool-soak.sh [RUNS] [AT-ONCE] [SIZE]   (2000 runs, 8 at once, a pool of 4); SBX names the binary.
set -eu

runs=${1:-2000} at_once=${2:-8} size=${3:-4}
sbx=${SBX:-$(dirname "$0")/../target/release/sbx}
sbx=$(realpath "$sbx")
base=$(mktemp -d)
mkdir -m 700 "$base/run"
mkdir "$base/project"
: > "$base/project/sandbox.toml"
export XDG_RUNTIME_DIR="$base/run" SBX_CACHE_DIR="$base/cache"
cd "$base/project"
trap '"$sbx" -q pool stop || true; rm -rf "$base"' EXIT

figure() {
    "$sbx" pool status --json | sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p"
}

full() {
    until [ "$(figure ready)" = "$(figure size)" ]; do sleep 0.05; done
    sleep 1
}

# Net namespaces are held by descriptors and processes; the links of all of them are counted once each.
namespaces() {
    find /proc/[0-9]*/ns/net /proc/[0-9]*/fd -lname 'net:*' -printf '%l\n' 2>/dev/null | sort -u | wc -l
}

show() {
    descriptors=$(ls "/proc/$pid/fd" | wc -l)
    memory=$(sed -n 's/^VmRSS:[^0-9]*//p' "/proc/$pid/status")
    children=$(cat "/proc/$pid/task/$pid/children")
    printf '%-7s descriptors %s, net namespaces on this machine %s, resident memory %s, children [%s]\n' \
        "$1" "$descriptors" "$(namespaces)" "$memory" "$children"
}

"$sbx" -q pool start --size "$size"
pid=$(figure pid)
full
show before
seq "$runs" | xargs -P "$at_once" -n 1 sh -c '"$0" -q run -- true' "$sbx"
full
show after
"$sbx" pool status
