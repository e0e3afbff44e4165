#!/usr/bin/env bash
# second-kernel.sh 6.1|6.12 [TEST-FILTER...]
# Boots a Debian kernel under qemu (software emulation, no network) with cgroup v2 alone, a part of it delegated to uid
# 1000, and runs the static sbx and its integration tests there, as root and as that user; scripts/second-kernel/init is
# what happens inside. Exit status 0: every check held. Needs qemu-system-x86, a C compiler with a static libc, dpkg and
# apt-get (kernel and busybox are downloaded and unpacked, not installed); no root.
#   SBX_STATIC        a directory with static `sbx` and `it`, instead of building them here
#   SBX_KERNEL_CACHE  where downloads and builds stay (/var/tmp/sbx-second-kernel)
#   SBX_KERNEL_ACCEL  how qemu runs it: tcg (the default), or kvm where that works
#   SBX_KERNEL_TIME   seconds for all of it (3000)
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-}
case $version in
    6.1) meta=linux-image-cloud-amd64 ;;
    6.12) meta=linux-image-6.12-cloud-amd64 ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
shift
filters=${*:-isolation:: life:: outputs:: threats:: refused:: cache:: pool:: limits::}
cache=${SBX_KERNEL_CACHE:-/var/tmp/sbx-second-kernel}
mkdir -p "$cache"
say() { echo "second-kernel.sh: $*"; }

# unpacked PACKAGE: where its files are.
unpacked() {
    local to="$cache/$1"
    if [ ! -d "$to" ]; then
        local from
        from=$(mktemp -d "$cache/download-XXXXXX")
        (cd "$from" && apt-get -q download "$1" >log 2>&1) || { cat "$from/log" >&2; rm -r "$from"; exit 2; }
        dpkg -x "$from"/*.deb "$from/files"
        mv "$from/files" "$to"
        rm -r "$from"
    fi
    echo "$to"
}

package=$(apt-cache depends "$meta" | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$package" ] || { say "apt does not know $meta; run apt-get update" >&2; exit 2; }
kernel=$(unpacked "$package")
busybox=$(unpacked busybox-static)/bin/busybox

# --- the programs under test -----------------------------------------------------------------------------------------
static=${SBX_STATIC:-$cache/static}
if [ -z "${SBX_STATIC:-}" ]; then
    say "building the static sbx and its tests"
    mkdir -p "$static"
    # A target of its own, or the build scripts and macros would be static too, which those can't be.
    target=$(uname -m)-unknown-linux-gnu
    build=$(RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_DEV_DEBUG=false nice \
        cargo test --locked --no-run --test it --target "$target" --target-dir "$cache/target" 2>&1) ||
        { echo "$build" >&2; exit 2; }
    strip -o "$static/sbx" "$cache/target/$target/debug/sbx"
    strip -o "$static/it" "$(sed -n 's/.*Executable tests.*(\(.*\))/\1/p' <<<"$build")"
fi

# --- the file system -------------------------------------------------------------------------------------------------
work=$(mktemp -d "$cache/run-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{dev,proc,sys,run,tmp,root,home/user,newroot,modules,probes,checkout} "$root"/etc/{alternatives,ssl} \
    "$root"/usr/{bin,sbin,lib,lib64,local/bin} "$root"/var/{tmp,lib/dpkg/info}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
# The tests assert what the real programs print, so those of Debian come in, with their libraries and their entries in the
# package data base.
packages=(coreutils util-linux util-linux-extra mount findutils grep sed dash bash mawk procps hostname diffutils tar libc-bin
    iproute2)
for package_in in "${packages[@]}"; do
    dpkg -L "$package_in" 2>/dev/null | grep -E '^(/usr)?/s?bin/' | while read -r program; do
        [ ! -f "$program" ] || cp -dn "$program" "$root/usr/bin/"
    done
    cp "/var/lib/dpkg/info/$package_in.md5sums" "$root/var/lib/dpkg/info/" 2>/dev/null || true
    dpkg-query -s "$package_in" 2>/dev/null && echo
done >"$root/var/lib/dpkg/status"
ln -sf mawk "$root/usr/bin/awk"
ln -sf dash "$root/usr/bin/sh"
cp "$busybox" "$root/usr/bin/busybox"
{ ldd "$root"/usr/bin/* 2>/dev/null || true; } | sed -nE 's,^\t(.* => )?(/[^ ]+) \(0x.*,\2,p' | sort -u | while read -r library; do
    to=$root/usr/${library#/}
    to=${to/usr\/usr/usr}
    mkdir -p "$(dirname "$to")"
    cp -L "$library" "$to"
done
find "$kernel" -name 'overlay.ko*' -exec cp {} "$root/modules/" \;
for compressed in "$root"/modules/*.xz; do [ ! -e "$compressed" ] || xz -d "$compressed"; done
cp -L /etc/os-release "$root/etc/"
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
cp "$static/sbx" "$static/it" "$root/usr/local/bin/"
for source in tests/it/probes/*.c; do
    probe=$(basename "$source" .c)
    # The linker warns of the name look-ups in a static program, which no test there makes.
    cc -std=gnu11 -O1 -static -o "$root/probes/$probe" "$source" 2>"$work/cc" || { cat "$work/cc" >&2; exit 2; }
done
cp -r src tests docs README.md ARCHITECTURE.md Cargo.toml sandbox.toml.example examples schema contrib "$root/checkout/"
cp scripts/second-kernel/init scripts/second-kernel/limits "$root/"
echo "$filters" >"$root/filters"
chmod -R a+rX "$root"
(cd "$root" && find . | "$busybox" cpio -o -H newc --quiet -R 0:0) >"$work/initramfs"

# --- the machine -----------------------------------------------------------------------------------------------------
say "booting $package"
# Five levels of page tables cost time where each is walked by software.
timeout --foreground "${SBX_KERNEL_TIME:-3000}" qemu-system-x86_64 -machine "pc,accel=${SBX_KERNEL_ACCEL:-tcg}" -cpu max,la57=off -smp 2 -m 3072 \
    -nodefaults -no-reboot -display none -net none -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init" -serial stdio </dev/null |
    sed -u 's,\r$,,' | tee "$work/console" || say "qemu: exit status ${PIPESTATUS[0]}"
good=$(grep -c '^ok: ' "$work/console" || true)
bad=$(grep -c '^not ok: ' "$work/console" || true)
say "Linux $version: $good checks held, $bad did not; ${SECONDS} s"
grep -q '^the end$' "$work/console" || { say "it did not come to its end" >&2; exit 1; }
[ "$good" -gt 0 ] && [ "$bad" = 0 ]
