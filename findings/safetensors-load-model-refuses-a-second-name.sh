#!/usr/bin/env bash
# safetensors' load_model refuses a file that has every parameter of the module under every one of its names.
#
# Versions: safetensors 0.8.0, torch 2.13.0 (pinned below); Python 3.11, Linux x86_64, CPU.
# Guess: load_model(module, file) takes what module.load_state_dict(load_file(file)) takes, and besides that files from
# which save_model left out the second name of a shared tensor.
# Behaviour: for a module whose head shares the embedding's weights, a file that holds both names (as save_file writes
# a copied state dict) loads by load_state_dict, all keys matched; load_model raises "Unexpected key(s)" for the second
# name, which is the module's own. So neither of the two calls loads both kinds of files: load_state_dict misses the
# name that save_model left out.
# Seen on 2026-11-30:
#   both names, load_state_dict: loaded
#   both names, load_model: Unexpected key(s) in state_dict: "head.weight"
#   one name, load_state_dict: Missing key(s) in state_dict: "head.weight".
#   one name, load_model: loaded
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON' | tee "$folder/seen"
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def said(load):
    try:
        load()
    except RuntimeError as error:
        return str(error).splitlines()[-1].strip()
    return "loaded"


module, folder = Tied(), Path(sys.argv[1])
save_file({name: tensor.clone() for name, tensor in module.state_dict().items()}, folder / "both")
save_model(module, str(folder / "one"))
for file in ("both", "one"):
    path = folder / file
    names = "both names" if file == "both" else "one name"
    print(f"{names}, load_state_dict: {said(lambda: Tied().load_state_dict(load_file(path)))}")
    print(f"{names}, load_model: {said(lambda: load_model(Tied(), path))}")
PYTHON
diff "$folder/seen" - <<'SEEN'
both names, load_state_dict: loaded
both names, load_model: Unexpected key(s) in state_dict: "head.weight"
one name, load_state_dict: Missing key(s) in state_dict: "head.weight".
one name, load_model: loaded
SEEN
