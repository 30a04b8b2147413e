#!/bin/bash
# peer.sh VENV: S3 on a free port of this machine, for tests. Makes the virtual environment VENV where it is missing.
set -euo pipefail
venv=$1
exec 9>"$venv.lock"
flock 9
if ! "$venv/bin/python" -c 'import moto.server' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'moto[s3,server]==5.2.5' >&2
fi
flock -u 9
exec "$venv/bin/python" "$(dirname "$0")/peer.py"
