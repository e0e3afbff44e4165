# What the scripts that build real projects share; to be sourced. It sets sbx (the binary, ${SBX_BIN:-sbx on PATH}) and base (a directory
# for sources and logs, ${SBX_REAL_PROJECTS:-a temporary one}).

sbx=$(command -v "${SBX_BIN:-sbx}")
if [ -n "${SBX_REAL_PROJECTS:-}" ]; then
    base=$(realpath -m "$SBX_REAL_PROJECTS")
else
    base=$(mktemp -d)
    trap 'rm -rf "$base"' EXIT
fi
mkdir -p "$base/sources" "$base/logs"

# Runs apt-get on private directories with this machine's own sources, their source packages switched on. Without the
# security archive: the upstream archive of a package is the same there, and mirrors of it are often incomplete.
apt_private() {
    local apt=$base/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
    if [ -z "$(ls -A "$apt/parts")" ]; then
        local list
        for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
            [ -f "$list" ] && sed -nE '/security/d; s/^deb /deb-src /p' "$list" > "$apt/parts/$(basename "$list" .list).list"
        done
        for list in /etc/apt/sources.list.d/*.sources; do
            [ -f "$list" ] && awk 'BEGIN { RS = ""; ORS = "\n\n" } !/security/ { sub(/Types:[^\n]*/, "Types: deb-src"); print }' "$list" \
                > "$apt/parts/$(basename "$list")"
        done
    fi
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/parts" \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@"
}

# debian PACKAGE: the upstream archive of a source package, unpacked into the current directory.
debian() {
    local package=$1 into archive
    into=$base/sources/debian-$package
    if ! ls "$into"/*.orig.tar.* > /dev/null 2>&1; then
        mkdir -p "$into"
        [ -n "$(ls "$base/apt/lists" 2>/dev/null | grep Sources)" ] || apt_private update
        (cd "$into" && apt_private source --download-only --only-source "$package")
    fi
    archive=$(ls "$into"/*.orig.tar.* | grep -v '\.asc$')
    tar -xf "$archive" --strip-components=1
}

