#!/bin/sh
# Makes sure that there is a Java for Spark's tests: 17 or newer.
set -eu

new_enough() {
    java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | { read -r major && [ "$major" -ge 17 ]; }
}

if ! new_enough && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing default-jre-headless ..." >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    { apt-get install -y -qq default-jre-headless || { apt-get update -qq && apt-get install -y -qq default-jre-headless; }; } \
        >/dev/null 2>&1 || true
fi
new_enough || {
    echo "make: the tests on Spark need Java 17 or newer on the PATH: apt install default-jre-headless" >&2
    exit 1
}
