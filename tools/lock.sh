#!/bin/sh
# Write requirements/run.txt, dev.txt, build.txt and armhf.txt: every package pinned, every file hashed, one lock for
# Python 3.11 and later. No registry is named in them: whatever index pip is set up with serves them.
# A version that is locked already stays, unless --upgrade follows the name of the Python.
# The resolver lives in an environment of its own, which is never part of the project's.
set -eu

python=$1
shift
if [ ! -x .cache/lock/bin/uv ]; then
    "$python" -m venv .cache/lock
    .cache/lock/bin/pip install --quiet --disable-pip-version-check uv
fi

upgrade=$*
lock() {
    out=$1
    shift
    .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $upgrade \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock' \
        --output-file "$out" "$@"
}

lock requirements/run.txt pyproject.toml --extra re2 --extra serve
lock requirements/dev.txt pyproject.toml --extra re2 --extra serve --group pyproject.toml:dev --constraints requirements/run.txt
lock requirements/build.txt --group pyproject.toml:build --constraints requirements/dev.txt
lock requirements/armhf.txt --group pyproject.toml:armhf --constraints requirements/dev.txt
