"""What a file of PyTorch's is, and whether reading it would run code that nobody looked at.

torch.export.load reads example inputs with weights_only=False where weights_only=True fails, and weights and constants
that the archive calls pickled so from the first; a program's operators are looked up by name in all of torch. So an
archive is looked through first, and what would be unpickled, or is no operator of PyTorch's own, is refused.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.importing.errors import Refused

PROGRAM, SCRIPT, PICKLE = "program", "script", "pickle"
MAX_BYTES, MAX_RATIO = 2**31, 200
# Where an exported program's functions come from.
OPERATORS = ("torch.ops.aten.", "torch.ops.prims.", "torch.ops.higher_order.", "_operator.", "math.", "torch.sym_")
# Operators that read or write files.
FILES = re.compile(r"\b(?:torch|ops\.aten)\.(?:save|load|from_file)\b")
# Operators of TorchScript that are not PyTorch's own.
CUSTOM = re.compile(r"\bops\.(?!aten\b|prim\b|prims\b|quantized\b)([A-Za-z_]\w*)")
TRUST = "; say --trust-code if you know where it comes from"


def torch_kind(path: Path) -> str | None:
    """Return what a file of PyTorch's is by its content, None for any other file. Raises Refused for a zip bomb."""
    with path.open("rb") as file:
        begin = file.read(2)
    if begin != b"PK":
        return PICKLE if begin[:1] == b"\x80" else None
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive)
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        raise Refused(f"{path.name} is a zip file that is cut off") from None
    if "archive_format" in names:
        return PROGRAM
    if "constants.pkl" in names:
        return SCRIPT
    return PICKLE if "data.pkl" in names else None


def _check_size(path: Path, archive: zipfile.ZipFile) -> None:
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES or size > MAX_RATIO * max(path.stat().st_size, 2**20):
        raise Refused(f"{path.name} would unpack to {size:,} bytes, which no model of its size does")


def check_program(path: Path) -> None:
    """Raise Refused for an exported program that holds pickled objects, compiled code or foreign operators."""
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        programs = [name for name in members if name.startswith("models/")]
        if any(name.startswith("data/aotinductor/") for name in members):
            raise Refused(f"{path.name} holds code that was compiled for one machine; save it with torch.export.save")
        if len(programs) != 1:
            raise Refused(f"{path.name} holds {len(programs)} programs, and a model is one")
        for name, member in members.items():
            if name.startswith(("data/weights/", "data/constants/")):
                _check_payload(path, name, archive.read(member))
            elif name.startswith("data/sample_inputs/"):
                _check_samples(path, archive.read(member))
        _check_operators(path, json.loads(archive.read(members[programs[0]])))


def _check_payload(path: Path, name: str, content: bytes) -> None:
    if name.endswith(".pt"):
        raise Refused(f"{path.name} was saved by an old PyTorch, with pickled weights; save it with this one")
    if not name.endswith(".json"):
        return
    for entry in json.loads(content)["config"].values():
        if entry["use_pickle"] or not str(entry["path_name"]).startswith(("weight_", "tensor_")):
            raise Refused(f"{path.name} holds pickled Python objects, which can run code when they are read")


def _check_samples(path: Path, content: bytes) -> None:
    import torch  # noqa: PLC0415 - what a file is, is asked without it

    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise Refused(
            f"{path.name} has example inputs that are no tensors: reading them can run code; export it with tensors"
        ) from error


def _check_operators(path: Path, program: Any) -> None:
    for target in _targets(program):
        if not target.startswith(OPERATORS) or "from_file" in target:
            raise Refused(f"{path.name} calls {target!r}, which is no operator of PyTorch's own, or reads files")


def _targets(part: Any) -> Iterator[str]:
    """Yield the functions that a program calls, those of inner graphs included."""
    if isinstance(part, dict):
        if isinstance(target := part.get("target"), str) and "inputs" in part:
            yield target
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _targets(each)


def check_script(path: Path) -> None:
    """Raise Refused for a TorchScript file whose code reads or writes files, or wants operators that are not here."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            code = archive.read(name).decode(errors="replace")
            if found := FILES.search(code):
                raise Refused(f"{path.name} calls {found[0]}, which reads or writes files; no server here runs that")
            if found := CUSTOM.search(code):
                raise Refused(
                    f"{path.name} wants operators {found[1]!r}, which are custom ones that no server here loads"
                )
