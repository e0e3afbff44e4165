#!/usr/bin/env bash
# second-kernel.sh [6.1|6.12] [TEST-FILTER...]
# Boots a Debian kernel under qemu (software emulation, no network) with cgroup v2 alone, delegated to uid 1000, and runs
# the static sbx and its integration tests there, as root and as that user; scripts/second-kernel/init is what happens
# inside. Needs qemu-system-x86, dpkg and apt-get (kernel and busybox are downloaded and unpacked, not installed).
# SBX_STATIC=DIR: a directory with static `sbx` and `it`, instead of building them. The cache is SBX_KERNEL_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-6.1}
shift || true
filters=${*:-isolation:: life:: outputs:: threats:: pool:: cache:: kills:: limits::}
cache=${SBX_KERNEL_CACHE:-/var/tmp/sbx-second-kernel}
mkdir -p "$cache"

# unpacked PACKAGE: where its files are.
unpacked() {
    local to="$cache/$1"
    if [ ! -d "$to" ]; then
        local from
        from=$(mktemp -d "$cache/download-XXXXXX")
        (cd "$from" && apt-get -q download "$1" >log 2>&1) || { cat "$from/log" >&2; exit 2; }
        dpkg -x "$from"/*.deb "$from/files"
        mv "$from/files" "$to"
        rm -r "$from"
    fi
    echo "$to"
}

case $version in
    6.1) meta=linux-image-cloud-amd64 ;;
    6.12) meta=linux-image-6.12-cloud-amd64 ;;
    *) echo "second-kernel.sh: a kernel 6.1 or 6.12, not $version" >&2; exit 2 ;;
esac
package=$(apt-cache depends "$meta" | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$package" ] || { echo "second-kernel.sh: apt does not know $meta; run apt-get update" >&2; exit 2; }
kernel=$(unpacked "$package")
busybox=$(unpacked busybox-static)/bin/busybox

# --- the programs under test -----------------------------------------------------------------------------------------
static=${SBX_STATIC:-}
if [ -z "$static" ]; then
    static=$cache/static
    mkdir -p "$static"
    target=x86_64-unknown-linux-gnu
    build=$(RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_DEV_DEBUG=false nice \
        cargo test --locked --no-run --test it --target $target --target-dir "$cache/target" 2>&1) ||
        { echo "$build" >&2; exit 2; }
    strip -o "$static/sbx" "$cache/target/$target/debug/sbx"
    strip -o "$static/it" "$(sed -n 's/.*Executable tests.*(\(.*\))/\1/p' <<<"$build")"
fi

# --- the file system -------------------------------------------------------------------------------------------------
work=$(mktemp -d "$cache/run-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{dev,proc,sys,run,tmp,var/tmp,root,home/user,newroot,modules,etc/alternatives,etc/ssl}
mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
# The tests assert what the real programs print, so those of Debian come in, with their libraries.
programs=$(dpkg -L coreutils util-linux util-linux-extra mount findutils grep sed dash bash mawk procps hostname diffutils tar \
    libc-bin iproute2 | grep -E '^(/usr)?/s?bin/')
for program in $programs; do
    [ ! -e "$program" ] || cp -dn "$program" "$root/usr/bin/"
done
{ ldd "$root"/usr/bin/* 2>/dev/null || true; } | sed -nE 's,^\t(.* => )?(/[^ ]+) \(0x.*,\2,p' | sort -u | while read -r library; do
    to="$root/usr/${library#/}"
    to=${to/usr\/usr/usr}
    mkdir -p "$(dirname "$to")"
    cp -L "$library" "$to"
done
cp -n "$(command -v awk)" "$root/usr/bin/awk" 2>/dev/null || true
ln -sf dash "$root/usr/bin/sh"
cp "$busybox" "$root/usr/bin/busybox"
find "$kernel" -name 'overlay.ko*' -exec cp {} "$root/modules/" \;
[ ! -e "$root/modules/overlay.ko.xz" ] || xz -d "$root/modules/overlay.ko.xz"
cp -L /etc/os-release "$root/etc/"
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
cp "$static/sbx" "$static/it" "$root/usr/local/bin/"
mkdir "$root/probes"
for probe in launcher netprobe probe; do
    cc -std=gnu11 -O1 -static -o "$root/probes/$probe" "tests/it/probes/$probe.c"
done
mkdir "$root/checkout"
cp -r src tests docs README.md ARCHITECTURE.md Cargo.toml sandbox.toml.example examples schema "$root/checkout/"
cp scripts/second-kernel/init "$root/init"
echo "$filters" >"$root/filters"
chmod -R a+rX "$root"
(cd "$root" && find . | "$busybox" cpio -o -H newc --quiet -R 0:0) >"$work/initramfs"

# --- the machine -----------------------------------------------------------------------------------------------------
echo "second-kernel.sh: booting $package"
timeout "${SBX_KERNEL_TIME:-1800}" qemu-system-x86_64 -machine pc,accel=tcg -cpu max -smp 2 -m 3072 -nodefaults -no-reboot \
    -display none -net none -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init" -serial stdio </dev/null | sed -u 's,\r$,,' | tee "$work/console"
echo "second-kernel.sh: $version: $(grep -c '^\(ok\|not ok\): ' "$work/console") checks in ${SECONDS} s"
! grep -q '^not ok: ' "$work/console" && grep -q '^the end$' "$work/console"
