#!/usr/bin/env bash
# Casting one module of an exported program casts the others, too.
#
# Versions: torch 2.13.0 (pinned below); Python 3.11, Linux x86_64, CPU.
# Guess: ExportedProgram.module() returns a module of its own each time, as copy.deepcopy would, so that one can be cast
# to float64 as a reference for the other.
# Behaviour: all modules of a program have the same parameters. After module().double() an older module() has float64
# weights, too, so that a comparison of the two finds no difference at all. A program that is loaded a second time has
# weights of its own.
# Seen on 2026-11-28:
#   same parameter objects: True
#   the first module after double() of the second: float64
#   the first module after double() of a program loaded again: float32
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder/program.pt2" <<'PYTHON' | tee "$folder/seen"
import sys

import torch

torch.export.save(torch.export.export(torch.nn.Linear(2, 1), (torch.ones(1, 2),)), sys.argv[1])


def dtype(module):
    return str(next(module.parameters()).dtype).removeprefix("torch.")


program = torch.export.load(sys.argv[1])
first, second = program.module(), program.module()
print("same parameter objects:", next(first.parameters()) is next(second.parameters()))
second.double()
print("the first module after double() of the second:", dtype(first))
first = torch.export.load(sys.argv[1]).module()
torch.export.load(sys.argv[1]).module().double()
print("the first module after double() of a program loaded again:", dtype(first))
PYTHON
diff "$folder/seen" - <<'SEEN'
same parameter objects: True
the first module after double() of the second: float64
the first module after double() of a program loaded again: float32
SEEN
