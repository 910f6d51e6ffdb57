#!/usr/bin/env bash
# The same function exported from two folders is two files: jax.export writes where its source lies.
#
# Versions: jax and jaxlib 0.10.2, flatbuffers 25.12.19 (pinned below; jax needs it for this, and does not declare it);
# the newest for Python 3.11 in November 2026, Linux x86_64, CPU.
# Guess: Exported.serialize() is the function: the same bytes for the same source, wherever that lies.
# Behaviour: the StableHLO in it has locations, with the absolute path of the file that was traced. So the bytes differ
# from one checkout to another, a hash of them says nothing about the function, and the path goes wherever the file goes.
# With jax_traceback_in_locations_limit at 0 the bytes are equal, and no path is in them.
# Seen on 2026-11-29:
#   as it is: equal bytes: False, the folder's path is in the file: True
#   limit 0: equal bytes: True, the folder's path is in the file: False
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 flatbuffers==25.12.19
for name in one another; do
    mkdir "$folder/$name"
    cat >"$folder/$name/model.py" <<'PYTHON'
import sys
from pathlib import Path

import jax

if len(sys.argv) > 1:
    jax.config.update("jax_traceback_in_locations_limit", int(sys.argv[1]))


def double(x):
    return x * 2


exported = jax.export.export(jax.jit(double))(jax.ShapeDtypeStruct((2,), "float32"))
Path(__file__).with_name("double.bin").write_bytes(exported.serialize())
PYTHON
done
show() {
    for name in one another; do "$folder/venv/bin/python" "$folder/$name/model.py" "${@:2}"; done
    equal=$(cmp -s "$folder/one/double.bin" "$folder/another/double.bin" && echo True || echo False)
    path=$(grep -qaF "$folder/one/" "$folder/one/double.bin" && echo True || echo False)
    echo "$1: equal bytes: $equal, the folder's path is in the file: $path"
}
{
    show "as it is"
    show "limit 0" 0
} | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
as it is: equal bytes: False, the folder's path is in the file: True
limit 0: equal bytes: True, the folder's path is in the file: False
SEEN
