#!/bin/bash
# Make the root of the image in the folder $1: what Debian's Python and Limpet's packages load, and no more.
# Each package's copyright stays, and its description is where scanners look for it (var/lib/dpkg/status.d).
set -euo pipefail

root=$1
python=python3.11
packages=(
    gcc-12-base libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libssl3 libstdc++6 libuuid1 zlib1g
    $python-minimal lib$python-minimal lib$python-stdlib
)
leave_out=(
    './usr/share/doc/*/changelog*' './usr/share/doc/*/NEWS*' './usr/share/doc/*/README*' './usr/share/applications'
    './usr/share/binfmts' './usr/share/gdb' './usr/share/lintian' './usr/share/man' './usr/share/pixmaps'
    './usr/lib/*/gconv' './usr/lib/valgrind'
)

mkdir -p "$root"/usr/{bin,lib,lib64,sbin} "$root/var/lib/dpkg/status.d"
for name in bin lib lib64 sbin; do
    ln -s "usr/$name" "$root/$name"
done

downloads=$(mktemp -d)
(cd "$downloads" && apt-get download -o APT::Sandbox::User=root "${packages[@]}")
for package in "$downloads"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
        tar --extract --directory "$root" --keep-directory-symlink "${leave_out[@]/#/--exclude=}"
    dpkg-deb --field "$package" > "$root/var/lib/dpkg/status.d/$(dpkg-deb --field "$package" Package)"
done
rm -r "$downloads"

# Modules that no part of Limpet imports, most of which would need further libraries.
cd "$root/usr/lib/$python"
rm -rf ensurepip idlelib lib2to3 pydoc_data test tkinter turtle.py unittest
for module in _crypt _curses _curses_panel _dbm _gdbm _sqlite3 _tkinter nis ossaudiodev readline; do
    rm -f lib-dynload/"$module".cpython-*.so
done

mkdir -p "$root"/{dev,etc/limpet,etc/ssl/certs,host,opt,proc,sys}
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
install -d -m 1777 "$root/tmp"
install -d -m 0700 -o 10001 -g 10001 "$root/var/lib/limpet"
echo 'limpet:x:10001:10001:limpet:/var/lib/limpet:/nonexistent' > "$root/etc/passwd"
echo 'limpet:x:10001:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
