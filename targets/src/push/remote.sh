#!/bin/sh
# Runs on the board, for `edge-vit-tools push`: remote.sh STORE SECONDS [FLAG OF INSTALL...]
# Reads a tar archive of one model, with its signature if it has one, from stdin. Installs it, and says the states of all models once a second, until
# SECONDS are over or nobody listens. What is installed is checked by `edge-vit model install` alone.
set -eu

store=$1 seconds=$2
shift 2

fail() { echo "$*" >&2; exit 1; }
command -v edge-vit >/dev/null || fail "there is no edge-vit on this board: install its package first"

# The folder belongs to the service, which could not lock what another user makes in it.
if [ "$(stat -L -c %u "$store" 2>/dev/null)" = "$(id -u)" ]; then
    as=
else
    root=
    [ "$(id -u)" = 0 ] || root='sudo -n'
    owner=$($root stat -L -c %U "$store") ||
        fail "cannot look at $store, the folder of models: install edge-vit's package first, and log in as its owner, as root, or as somebody whom sudo asks no password"
    as="$root runuser -u $owner --"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
tar -x -C "$folder" -f - || fail "the model did not arrive whole: push it again"
chmod -R a+rX "$folder"
# shellcheck disable=SC2086 # a command and its flags
$as edge-vit model --store "$store" install "$@" "$folder"/*.onnx
rm -rf "$folder"

while [ "$seconds" -gt 0 ]; do
    # shellcheck disable=SC2086 # a command and its flags
    $as edge-vit model --store "$store" list --json
    sleep 1
    seconds=$((seconds - 1))
done
