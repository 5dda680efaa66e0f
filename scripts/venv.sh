#!/bin/sh
# usage: scripts/venv.sh VENV PYTHON
# Makes the virtual environment VENV with a Python that is new enough, and puts the locked uv into it.
set -eu
venv=$1
wanted=$2

fail() {
    echo "make: $*" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Only the default may be replaced by another Python; one that was asked for by name is an order.
find_python() {
    if new_enough "$wanted"; then echo "$wanted"; return; fi
    [ "$wanted" = python3 ] || fail "PYTHON=$wanted is not Python 3.11 or newer. Name another one."
    for candidate in python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    fail "no Python 3.11 or newer on the PATH. Install one, or name it: make PYTHON=/path/to/python3"
}

can_make_venv() {
    "$1" -c 'import ensurepip, venv; ensurepip.version()' >/dev/null 2>&1
}

# Debian ships the venv module without pip's wheel, in a package of its own.
install_venv_module() {
    package=python$(version "$1")-venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $package ..." >&2
        DEBIAN_FRONTEND=noninteractive
        export DEBIAN_FRONTEND
        { apt-get install -y -qq "$package" || { apt-get update -qq && apt-get install -y -qq "$package"; }; } \
            >/dev/null 2>&1 || true
    fi
    can_make_venv "$1" || fail "$1 cannot make virtual environments. Install its venv module (apt install $package)."
}

if [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python"; then
    there=$(version "$venv/bin/python")
    if [ "$wanted" != python3 ] && new_enough "$wanted" && [ "$(version "$wanted")" != "$there" ]; then
        fail "$venv has Python $there, PYTHON=$wanted is $(version "$wanted"). Give it a place of its own: VENV=.venv-$(version "$wanted")"
    fi
    python=$venv/bin/python
else
    python=$(find_python)
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    can_make_venv "$python" || install_venv_module "$python"
    echo "making $venv with Python $(version "$python") ..." >&2
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install -qq --require-hashes -r requirements/uv.txt
