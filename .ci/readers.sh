#!/usr/bin/env bash
# Installs a program that the tests ask, a reader of traces or pages or the sandbox, into a cache that later runs find
# again, and prints its path: readers.sh jaeger|phoenix|axe|chromium|bubblewrap. Jaeger needs Go 1.24.6 or later and builds for
# some minutes; Phoenix is 855 MB of Python. Nothing is installed beside the cache and Go's own.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/subagent-runner-ci
jaeger=v1.76.0  # the last tag that Go's tools take; its cmd/jaeger is Jaeger 2.13
phoenix=20.26.1
axe=4.14.1

# Builds in a module of its own: Jaeger's go.mod holds a replace directive, which `go install` refuses.
# All but Jaeger itself is checked against the sums that its authors released; Jaeger against these.
build_jaeger() {
    local work module
    work=$(mktemp -d "${TMPDIR:-/tmp}/jaeger-build.XXXXXX")
    trap 'rm -rf "$work"' RETURN
    cd "$work"
    export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off
    cat >go.mod <<EOF
module jaeger.invalid/build

go 1.24.6

require github.com/jaegertracing/jaeger $jaeger

replace github.com/Shopify/sarama => github.com/Shopify/sarama v1.33.0
EOF
    cat >go.sum <<EOF
github.com/jaegertracing/jaeger v1.76.0 h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g=
github.com/jaegertracing/jaeger v1.76.0/go.mod h1:hqcuJlLDTv7G2x5eFd/BhwcPdLxj3N+90aKhIzdOcKo=
EOF
    go mod download "github.com/jaegertracing/jaeger@$jaeger" >&2
    module=$(go env GOMODCACHE)/github.com/jaegertracing/jaeger@$jaeger
    cat "$module/go.sum" >>go.sum
    go build -trimpath -ldflags="-s -w" -o "$1.part" github.com/jaegertracing/jaeger/cmd/jaeger >&2
    mv "$1.part" "$1"
}

install_phoenix() {
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install -q "arize-phoenix==$phoenix" >&2
    touch "$1/complete"
}

# Looks for what keeps people from reading a page; one file of JavaScript, run in the browser.
install_axe() {
    rm -rf "$1"
    npm install --silent --no-save --ignore-scripts --prefix "$1" "axe-core@$axe" >&2
}

# Debian's own browser and driver; where they are not installed, only root can.
install_chromium() {
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium chromium-driver >&2
}

install_bubblewrap() {
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y bubblewrap >&2
}

case ${1:-} in
jaeger)
    program=$cache/jaeger-$jaeger
    mkdir -p "$cache"
    [ -x "$program" ] || build_jaeger "$program"
    ;;
phoenix)
    program=$cache/phoenix-$phoenix/bin/phoenix
    mkdir -p "$cache"
    [ -e "$cache/phoenix-$phoenix/complete" ] || install_phoenix "$cache/phoenix-$phoenix"
    ;;
axe)
    program=$cache/axe-$axe/node_modules/axe-core/axe.min.js
    mkdir -p "$cache"
    [ -e "$program" ] || install_axe "$cache/axe-$axe"
    ;;
chromium)
    { command -v chromium && command -v chromedriver; } >/dev/null || install_chromium
    program=$(command -v chromium)
    ;;
bubblewrap)
    command -v bwrap >/dev/null || install_bubblewrap
    program=$(command -v bwrap)
    ;;
*)
    echo "usage: readers.sh jaeger|phoenix|axe|chromium|bubblewrap" >&2
    exit 2
    ;;
esac
printf '%s\n' "$program"
