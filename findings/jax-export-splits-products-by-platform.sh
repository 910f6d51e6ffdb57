#!/usr/bin/env bash
# A function exported for two platforms has every matrix product twice, in a branch for each, though both are the same.
#
# Versions: jax and jaxlib 0.10.2 (pinned below), the newest for Python 3.11 in November 2026, Linux x86_64, CPU.
# Guess: a float32 product is one stablehlo.dot_general on every platform, so a file for ("cpu", "tpu") has it once, as the
# files for one of them do; and what ran on the CPU is what a TPU will run.
# Behaviour: with more than one platform the product is lowered once for each, into the branches of a stablehlo.case on the
# platform's number, and a second case maps that number to a branch. The branches are equal to the letter. A sum or
# tanh beside it is written once. So a file that was proven on one platform holds products that have never run.
# Seen on 2026-11-29:
#   cpu: 1 product, 0 cases, 1 tanh
#   tpu: 1 product, 0 cases, 1 tanh
#   cpu tpu: 2 products, 2 cases, 1 tanh
#   the products of cpu and tpu, each alone, are the same line: True
#   the two products of cpu tpu are the same line: True
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import re

import jax
import jax.numpy as jnp


def model(x, w):
    return jnp.tanh(x @ w)


def text_for(*platforms):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 2), (2, 1))]
    return jax.export.export(jax.jit(model), platforms=platforms)(*shapes).mlir_module()


def products(text):
    """Return each product from its precision on; names of values and locations differ from file to file."""
    return re.findall(r"stablehlo\.dot_general [^,]+, [^,]+, (.*?) loc", text)


def told(count, word):
    return f"{count} {word}{'s' * (count != 1)}"


found = {}
for platforms in (("cpu",), ("tpu",), ("cpu", "tpu")):
    text = text_for(*platforms)
    found[platforms] = products(text)
    counts = told(len(found[platforms]), "product"), told(len(re.findall(r"stablehlo\.case", text)), "case")
    print(f"{' '.join(platforms)}: {', '.join(counts)}, {len(re.findall(r'stablehlo[.]tanh', text))} tanh")
print("the products of cpu and tpu, each alone, are the same line:", found["cpu",] == found["tpu",])
print("the two products of cpu tpu are the same line:", len(set(found["cpu", "tpu"])) == 1)
PYTHON
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
cpu: 1 product, 0 cases, 1 tanh
tpu: 1 product, 0 cases, 1 tanh
cpu tpu: 2 products, 2 cases, 1 tanh
the products of cpu and tpu, each alone, are the same line: True
the two products of cpu tpu are the same line: True
SEEN
