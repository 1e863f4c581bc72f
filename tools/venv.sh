#!/bin/sh
# Make an environment: venv.sh FOLDER LOCK [what pip is to install on top of the lock, without its dependencies]
# It has the newest Python of 3.11 or later that works, and exactly what LOCK pins.
set -eu

folder=$1 lock=$2
shift 2

say() { echo "venv: $*" >&2; }

# A name on the PATH proves nothing (version managers leave stubs), so each is run. $1 is what it must do.
find_python() {
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c "import sys; assert sys.version_info >= (3, 11); $1" >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
    done
    return 1
}

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! python=$(find_python 'import ensurepip, venv'); then
        if ! find_python 'pass' >/dev/null && [ -z "$(command -v apt-get)" ]; then
            say "no working Python of 3.11 or later is on the PATH: install one and try again"
            exit 1
        fi
        if [ "$(id -u)" != 0 ] || [ -z "$(command -v apt-get)" ]; then
            say "no Python of 3.11 or later that can make an environment: install its venv module" \
                "(on Debian: apt-get install python3-venv) and try again"
            exit 1
        fi
        say "installing python3-venv"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >&2
        if ! python=$(find_python 'import ensurepip, venv'); then
            say "this system's Python is older than 3.11: install a newer one and try again"
            exit 1
        fi
    fi
    say "making $folder with $("$python" --version)"
    rm -rf "$folder"
    "$python" -m venv "$folder"
fi

say "installing $lock"
# Errors only (-qq). The lock has everything: pip is not to resolve (it would look for a newer release of what an
# extra names). What is imported is compiled at its first import.
pip() { "$folder/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --no-compile "$@"; }
pip --require-hashes -r "$lock"
[ $# = 0 ] || pip "$@"
