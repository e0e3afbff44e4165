#!/bin/sh
# Makes the package data bases beside it anew, with the real tools (Debian: dpkg, rpm, sqlite3,
# pacman-package-manager, libarchive-tools). As root, for rpm changes its root. The apk data base was written by hand in the form that apk-tools
# 2 and 3 write, which Debian does not have.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
umask 022

# dpkg: one package for every machine, one that may be there for several, one removed but for its configuration, one
# unpacked only.
deb() { # NAME VERSION ARCHITECTURE [FIELD]
    mkdir -p "deb/$1/DEBIAN" "deb/$1/usr/share/$1" "deb/$1/etc"
    echo "$1 $2 $3" > "deb/$1/usr/share/$1/file"
    echo "$1" > "deb/$1/etc/$1.conf"
    echo "/etc/$1.conf" > "deb/$1/DEBIAN/conffiles"
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\n%sDescription: for tests\n A second line.\n .\n And a third.\n' \
        "$1" "$2" "$3" "${4:+$4
}" > "deb/$1/DEBIAN/control"
    (cd "deb/$1" && find usr -type f -exec md5sum {} + > DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Znone -b "deb/$1" "$1.deb" > /dev/null
}
deb alpha 1.2-3 all
deb libbeta 1:2.0~rc1+b1 amd64 "Multi-Arch: same"
deb gamma 3 all
deb delta 4 all
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates root/var/lib/dpkg/triggers root/var/log
: > root/var/lib/dpkg/status
dpkg="dpkg --root=$work/root --force-not-root --force-bad-path --log=/dev/null"
$dpkg -i alpha.deb libbeta.deb gamma.deb > /dev/null
$dpkg -r gamma > /dev/null
$dpkg --unpack delta.deb > /dev/null
rm -rf "$here/dpkg"
mkdir -p "$here/dpkg/var/lib/dpkg"
cp -r root/var/lib/dpkg/status root/var/lib/dpkg/info "$here/dpkg/var/lib/dpkg/"

# rpm: two versions of one package side by side.
rpm() { # NAME VERSION RELEASE [LINE]
    printf 'Name: %s\nVersion: %s\nRelease: %s\nSummary: for tests\nLicense: MIT\nBuildArch: noarch\n%s\n%%description\nFor tests.\n%%install\nmkdir -p %%{buildroot}/usr/share/%s-%s\necho %s > %%{buildroot}/usr/share/%s-%s/file\n%%files\n/usr/share/%s-%s\n' \
        "$1" "$2" "$3" "${4:-}" "$1" "$2" "$1" "$1" "$2" "$1" "$2" > "$1-$2.spec"
    command rpmbuild --quiet -bb --define "_topdir $work/rpmbuild" --define "_buildhost localhost" "$1-$2.spec"
}
rpm alpha 1.2 3
rpm beta 2.0~rc1 1.fc40 "Epoch: 4"
rpm kernel 6.1 1
rpm kernel 6.2 1
dir=$here/rpm/usr/lib/sysimage/rpm
rm -rf "$here/rpm"
mkdir -p "$dir" "$work/rpm"
command rpm --root "$work/rpm" --define "_dbpath /usr/lib/sysimage/rpm" --define "_db_backend sqlite" \
    --nodeps --nosignature --nodigest --ignoresize -i "$work"/rpmbuild/RPMS/noarch/*.rpm 2> /dev/null
# Smaller pages make it a smaller file. rpm leaves the data base in WAL mode.
sqlite3 "$work/rpm/usr/lib/sysimage/rpm/rpmdb.sqlite" \
    'PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM; PRAGMA journal_mode = WAL;' > /dev/null
cp "$work/rpm/usr/lib/sysimage/rpm/rpmdb.sqlite" "$dir/"

# pacman
pac() { # NAME VERSION
    mkdir -p "pac/$1/usr/share/$1"
    echo "$1" > "pac/$1/usr/share/$1/file"
    printf 'pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = for tests\nbuilddate = 1700000000\npackager = Nobody\nsize = 6\narch = any\n' \
        "$1" "$1" "$2" > "pac/$1/.PKGINFO"
    (cd "pac/$1" && bsdtar --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' \
        -cf - .PKGINFO usr | gzip -cn > .MTREE && bsdtar -cf "$work/$1.pkg.tar" .PKGINFO .MTREE usr)
}
pac alpha 1.2-3
pac lib32-beta 2:2.0rc1-1
mkdir -p pacroot/var/lib/pacman
printf '[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\n' > pacman.conf
pacman --config pacman.conf --root "$work/pacroot" --dbpath "$work/pacroot/var/lib/pacman" --cachedir "$work" \
    --logfile /dev/null --hookdir "$work" --noconfirm --noscriptlet -U ./*.pkg.tar > /dev/null
rm -rf "$here/pacman"
mkdir -p "$here/pacman/var/lib/pacman"
cp -r pacroot/var/lib/pacman/local "$here/pacman/var/lib/pacman/"
