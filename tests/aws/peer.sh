#!/bin/bash
# peer.sh FOLDER: an environment of Python in FOLDER with exactly what requirements.txt lists; tells its interpreter.
# It is made beside its place and moved there when it is whole; who comes second waits for the first.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$1")"
place=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
wanted=$(cat "$here/requirements.txt" <(python3 --version) | sha256sum | cut -d' ' -f1)
exec 9>"$place.lock"
flock 9
if [[ $(cat "$place/stamp" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$place" "$place".made.*
    made=$(mktemp -d "$place.made.XXXXXX")
    python3 -m venv "$made"
    "$made/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-input --requirement "$here/requirements.txt" >&2
    "$made/bin/python" -m pip check --disable-pip-version-check >&2
    echo "$wanted" > "$made/stamp"
    mv "$made" "$place"
fi
echo "$place/bin/python"
