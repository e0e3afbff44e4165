#!/usr/bin/env bash
# Builds real projects from source inside the sandbox and runs their own test suites there.
#
#   scripts/real-projects.sh [NAME...]      all of them, or these: zlib lua jq sqlite cjson hexyl click
#
# Nothing is declared beyond a project's own tree and the host's toolchain, and there is no network. Each project is
# built twice, in two checkouts at different paths, and the two results are compared bit for bit.
#
# Sources come from Debian's source packages (their upstream archives), and through cargo and pip. They are kept in
# ${SBX_REAL_PROJECTS:-a temporary directory}. The binary is ${SBX_BIN:-sbx on PATH}.
#
# Needs: gcc make dpkg-dev; cmake (cjson); autoconf automake libtool bison flex libonig-dev (jq); tclsh (sqlite);
# cargo (hexyl); python3-setuptools python3-wheel python3-pytest pip (click).
set -euo pipefail

. "$(dirname "$0")/sources.sh"

# crate NAME VERSION: a crate with its dependencies in vendor/, unpacked into the current directory.
crate() {
    local name=$1 version=$2 stub=$base/sources/crate-$1
    if [ ! -d "$stub/unpacked" ]; then
        mkdir -p "$stub/src"
        printf '[package]\nname = "stub"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n' \
            "$name" "$version" > "$stub/Cargo.toml"
        : > "$stub/src/lib.rs"
        CARGO_HOME=$stub/home cargo fetch -q --manifest-path "$stub/Cargo.toml"
        mkdir "$stub/unpacking"
        tar -xf "$stub"/home/registry/cache/*/"$name-$version.crate" -C "$stub/unpacking" --strip-components=1
        (cd "$stub/unpacking" && CARGO_HOME=$stub/home cargo vendor -q --locked)
        mkdir "$stub/unpacking/.cargo"
        printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' \
            > "$stub/unpacking/.cargo/config.toml"
        mv "$stub/unpacking" "$stub/unpacked"
    fi
    cp -a "$stub/unpacked/." .
}

# sdist NAME VERSION: a source distribution, unpacked into the current directory.
sdist() {
    local name=$1 version=$2 into=$base/sources/sdist-$1
    [ -d "$into" ] || python3 -m pip download -q --no-binary :all: --no-deps -d "$into" "$name==$version"
    tar -xf "$into/$name-$version.tar.gz" --strip-components=1
}

# Each project: how its source comes here, its sandbox.toml, and how its test log is counted.
config() { cat > sandbox.toml; }

fetch_zlib() { debian zlib; }
config_zlib() {
    config <<'TOML'
inputs = ["**"]
outputs = ["libz.a", "libz.so.1.2.13", "example", "minigzip"]
[task.build]
command = ["sh", "-c", "./configure && make -j2"]
[task.test]
command = ["sh", "-c", "./configure && make -j2 && make check"]
outputs = []
TOML
}
count_zlib() { grep -c 'test OK' "$1"; }

fetch_lua() { debian lua5.4; }
config_lua() {
    config <<'TOML'
inputs = ["**"]
outputs = ["src/lua", "src/luac", "src/liblua.a"]
[task.build]
command = ["make", "-j2", "linux"]
[task.test]
command = ["sh", "-c", "make -j2 linux && make test"]
outputs = []
TOML
}
count_lua() { grep -c '^Lua 5' "$1"; }

fetch_jq() { debian jq; }
config_jq() {
    config <<'TOML'
inputs = ["**"]
gitignore = false
outputs = ["jq", ".libs/libjq.a"]
[task.build]
command = ["sh", "-c", "autoreconf -fi && ./configure --disable-docs --disable-maintainer-mode --disable-valgrind && make -j2"]
[task.test]
command = ["sh", "-c", "autoreconf -fi && ./configure --disable-docs --disable-maintainer-mode --disable-valgrind && make -j2 && make check"]
outputs = []
TOML
}
count_jq() { awk '/^# PASS:/ { passed += $3 } END { print passed }' "$1"; }

fetch_sqlite() { debian sqlite3; }
config_sqlite() {
    config <<'TOML'
inputs = ["**"]
outputs = ["sqlite3", "sqlite3.c", "sqlite3.h"]
[task.build]
command = ["sh", "-c", "./configure --disable-tcl && make -j2 sqlite3"]
[task.test]
command = ["sh", "-c", "./configure --disable-tcl && make -j2 sqlite3 fuzzcheck && make fuzztest"]
outputs = []
TOML
}
count_sqlite() { sed -nE 's/^fuzzcheck: 0 errors out of ([0-9]+) tests.*/\1/p' "$1"; }

fetch_cjson() { debian cjson; }
config_cjson() {
    config <<'TOML'
inputs = ["**"]
outputs = ["build/libcjson.so*", "build/libcjson_utils.so*"]
[task.build]
command = ["sh", "-c", "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DENABLE_CJSON_UTILS=On && make -C build -j2"]
[task.test]
command = ["sh", "-c", "cmake -S . -B build -DENABLE_CJSON_UTILS=On && make -C build -j2 && make -C build test"]
outputs = []
TOML
}
count_cjson() { sed -nE 's/^100% tests passed, 0 tests failed out of ([0-9]+)$/\1/p' "$1"; }

fetch_hexyl() { crate hexyl 0.16.0; }
config_hexyl() {
    config <<TOML
inputs = ["**"]
gitignore = false
outputs = ["target/release/hexyl"]
[[mount]]
source = "$(rustc --print sysroot)"
target = "/opt/rust"
identity = "declared"
version = "$(rustc --version)"
[env]
set = { PATH = "/opt/rust/bin:/usr/bin:/bin" }
[task.build]
command = ["cargo", "build", "--release", "--offline", "--locked"]
[task.test]
command = ["cargo", "test", "--offline", "--locked"]
outputs = []
TOML
}
count_hexyl() { awk '/^test result: ok/ { passed += $4 } END { print passed }' "$1"; }

fetch_click() { sdist click 8.1.7; }
config_click() {
    config <<'TOML'
inputs = ["**"]
outputs = ["dist/*.whl"]
[task.build]
command = ["python3", "setup.py", "-q", "bdist_wheel"]
[task.test]
command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
outputs = []
[task.test.env]
set = { PYTHONPATH = "src" }
TOML
}
count_click() { sed -nE 's/^([0-9]+) passed.*/\1/p' "$1"; }

# prepare NAME PLACE: the source and its sandbox.toml. Run in the background, where `set -e` holds (it doesn't before `||`).
prepare() {
    cd "$2"
    "fetch_$1"
    "config_$1"
    # What comes back is newer than this file.
    find . -exec touch -h -d '2001-01-01' {} +
    touch -d '2002-01-01' .before
}

# The digest of everything that came back: names, modes and contents.
digest_of_outputs() {
    find . -type f -newer .before -printf '%P %m\n' -o -type l -newer .before -printf '%P %l\n' | sort
    find . -type f -newer .before -print0 | sort -z | xargs -0r sha256sum
}

failed=0
table="project|build|tests|identical"
[ $# -gt 0 ] || set -- zlib lua jq sqlite cjson hexyl click
for name; do
    declare -F "fetch_$name" > /dev/null || { echo "real-projects: no project named $name" >&2; exit 2; }
    echo "real-projects: $name" >&2
    built=yes tests=- identical=-
    for checkout in one two/at/another/path; do
        place=$base/work/$checkout/$name
        rm -rf "$place"
        mkdir -p "$place"
        log=$base/logs/$name-${checkout%%/*}
        prepare "$name" "$place" > "$log.fetch" 2>&1 &
        wait "$!" || { tail -n 30 "$log.fetch" >&2; built="no source"; break; }
        if ! (cd "$place" && "$sbx" run --no-cache build > "$log.build" 2>&1); then
            tail -n 30 "$log.build" >&2
            built="failed ($log.build)"
            break
        fi
        (cd "$place" && digest_of_outputs) > "$base/logs/$name-${checkout%%/*}.outputs"
    done
    if [ "$built" = yes ]; then
        [ -s "$base/logs/$name-one.outputs" ] || { echo "real-projects: $name built nothing" >&2; built="nothing"; }
        if cmp -s "$base/logs/$name-one.outputs" "$base/logs/$name-two.outputs"; then
            identical=yes
        else
            identical=no
            diff "$base/logs/$name-one.outputs" "$base/logs/$name-two.outputs" >&2 || true
        fi
        if (cd "$base/work/one/$name" && "$sbx" run --no-cache test > "$base/logs/$name.test" 2>&1); then
            tests="$("count_$name" "$base/logs/$name.test" || true) passed"
            [[ $tests =~ ^[1-9] ]] || tests="none counted"
        else
            tail -n 30 "$base/logs/$name.test" >&2
            tests="failed"
        fi
    fi
    table+=$'\n'"$name|$built|$tests|$identical"
    [[ $built == yes && $tests =~ ^[1-9] && $identical == yes ]] || failed=1
    [ -n "${SBX_REAL_PROJECTS:-}" ] || rm -rf "$base/work"
done
echo "$table" | awk -F'|' '{ printf "%-10s %-12s %-16s %s\n", $1, $2, $3, $4 }'
exit "$failed"
