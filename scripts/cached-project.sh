#!/usr/bin/env bash
# What the cache brings on a real project of some 450 translation units: git, from Debian's source package.
#
#   scripts/cached-project.sh
#
# Times are ratios to the same build outside of the sandbox, measured in the same run: cold (nothing known), unchanged, one file
# changed, and a branch switched to and back. The outputs are compared each time with those of a build without a cache.
#
# Needs: gcc make dpkg-dev git zlib1g-dev. The source is kept in ${SBX_REAL_PROJECTS:-a temporary directory}.
set -euo pipefail
. "$(dirname "$0")/sources.sh"

SBX_CACHE_DIR=$(mktemp -d "$base/cache.XXXXXX")
export SBX_CACHE_DIR
place=$base/work/cached
rm -rf "$place" "$base/work/outside"
mkdir -p "$place"
cd "$place"
debian git > "$base/logs/cached.fetch" 2>&1
build='make -j2 CFLAGS=-O1 NO_OPENSSL=1 NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_PERL=1 NO_PYTHON=1 NO_TCLTK=1 NO_REGEX=YesPlease git'
cat > sandbox.toml <<TOML
inputs = ["**", "!git", "!sandbox.toml"]
gitignore = false
outputs = ["git"]
[task.build]
command = ["sh", "-c", "$build"]
TOML
git init -q .
git add -Af . && git -c user.name=a -c user.email=a@example.org commit -qm base
git branch other

seconds() { # FILE COMMAND...: how long the command takes, in seconds, into FILE
    local into=$1 begun ended
    shift
    begun=$(date +%s.%N)
    "$@"
    ended=$(date +%s.%N)
    awk -v a="$begun" -v b="$ended" 'BEGIN { printf "%.3f\n", b - a }' > "$into"
}
run() { # NAME WANTED: one run of the task, which must be a hit or a computation as WANTED says
    seconds "$base/logs/$1.time" "$sbx" run build > "$base/logs/$1.log" 2> "$base/logs/$1.err"
    if [ "$2" = hit ]; then grep -q '^sbx: cached, ' "$base/logs/$1.err"; else ! grep -q '^sbx: cached, ' "$base/logs/$1.err"; fi ||
        { echo "cached-project: $1 was no $2" >&2; exit 1; }
    sha256sum < git > "$base/logs/$1.sum"
}
same() { cmp -s "$base/logs/$1.sum" "$base/logs/$2.sum" || { echo "cached-project: $1 and $2 differ" >&2; exit 1; }; }

git worktree add -q "$base/work/outside" other
(cd "$base/work/outside" && seconds "$base/logs/outside.time" sh -c "$build" > "$base/logs/outside.log" 2>&1)
git worktree remove --force "$base/work/outside"
run cold computed
run unchanged hit
rm git
run removed hit
printf '\nint changed_by_the_script;\n' >> strbuf.c
git -c user.name=a -c user.email=a@example.org commit -qam changed
run changed computed
git checkout -q other && run back hit
git checkout -q - && run forth hit
same cold unchanged; same cold removed; same cold back; same changed forth
"$sbx" run --no-cache build > /dev/null 2>&1 && sha256sum < git > "$base/logs/anew.sum"
same anew forth

units=$(grep -c '^ *CC ' "$base/logs/outside.log")
outside=$(cat "$base/logs/outside.time")
printf '%s translation units; the build outside: %s s\n' "$units" "$outside"
for name in cold unchanged removed changed back forth; do
    awk -v name="$name" -v time="$(cat "$base/logs/$name.time")" -v outside="$outside" \
        'BEGIN { printf "%-10s %9.3f s   %.4f of the build outside\n", name, time, time / outside }'
done
rm -rf "$SBX_CACHE_DIR"
