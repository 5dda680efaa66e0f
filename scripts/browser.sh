#!/bin/sh
# Makes sure that there is a Chromium for the tests that look at pages.
set -eu

there() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null; }

if ! there && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium ..." >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    { apt-get install -y -qq chromium || { apt-get update -qq && apt-get install -y -qq chromium; }; } >/dev/null 2>&1 || true
fi
there || {
    echo "make: the tests on pages need Chromium on the PATH: apt install chromium" >&2
    exit 1
}
