#!/bin/bash
# peer.sh FOLDER: S3 on a free port of this machine, for tests; FOLDER is the environment of Python of all peers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/../../../tests/aws/peer.sh" "$1")
exec "$python" "$here/peer.py"
