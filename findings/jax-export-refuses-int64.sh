#!/usr/bin/env bash
# An exported function that takes int64 refuses an array of int64, and says that it was called with int32.
#
# Versions: jax and jaxlib 0.10.2, flatbuffers 25.12.19 (pinned below; jax needs it for this, and does not declare it);
# the newest for Python 3.11 in November 2026, Linux x86_64, CPU.
# Guess: what was exported for int64 takes the int64 array of numpy that it was exported for, or names the setting that
# is missing.
# Behaviour: Exported.call first makes its arguments JAX's own, which halves 64 bits unless jax_enable_x64 is on, and then
# complains about what it made of them: "expected int64 and called with int32", though the caller gave int64. There is no
# warning and no word of the setting. A network of texts, whose ids are int64, cannot be called so in a new process.
# Within jax.enable_x64(True) the same call is answered.
# Seen on 2026-11-29:
#   given int64: ValueError: Dtype mismatch for args[0]: expected int64 and called with int32
#   the same with jax.enable_x64(True): [2, 4] int64
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 flatbuffers==25.12.19
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import jax
import numpy as np

with jax.enable_x64(True):
    written = jax.export.export(jax.jit(lambda x: x * 2))(jax.ShapeDtypeStruct((2,), "int64")).serialize()
exported, x = jax.export.deserialize(written), np.array([1, 2], np.int64)
try:
    print(f"given {x.dtype}:", exported.call(x))
except ValueError as error:
    print(f"given {x.dtype}: ValueError:", str(error).splitlines()[0])
with jax.enable_x64(True):
    found = np.asarray(exported.call(x))
print("the same with jax.enable_x64(True):", found.tolist(), found.dtype)
PYTHON
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
given int64: ValueError: Dtype mismatch for args[0]: expected int64 and called with int32
the same with jax.enable_x64(True): [2, 4] int64
SEEN
