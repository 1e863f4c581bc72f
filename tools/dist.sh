#!/bin/sh
# Build the sdist and the wheel: dist.sh PYTHON FOLDER
# The same commit gives the same bytes, whenever and wherever it is built: no file's own time, owner or mode counts, and
# the wheel is made of what the sdist holds.
set -eu

python=$1 out=$2
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --no-isolation --sdist --outdir "$work" . >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
archive=$(basename "$work"/limpet-*.tar.gz)
name=${archive%.tar.gz}
tar -xzf "$work/$archive" -C "$work" --no-same-permissions --no-same-owner
mkdir -p "$out"
tar -C "$work" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX -cf - "$name" | gzip -n -9 >"$out/$archive"
"$python" -m build --no-isolation --wheel --outdir "$out" "$work/$name" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
