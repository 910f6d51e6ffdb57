"""What a file of PyTorch's is, and whether reading it would run code that nobody looked at.

torch.export.load reads example inputs with weights_only=False where weights_only=True fails, and weights and constants
that the archive calls pickled so from the first; a program's operators are looked up by name in all of torch. So an
archive is looked through first, and what would be unpickled, or is no operator of PyTorch's own, is refused.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from export.importing.errors import Refused

PROGRAM, SCRIPT, PICKLE = "program", "script", "pickle"
MAX_BYTES, MAX_RATIO = 2**31, 200
# Where an exported program's functions come from.
OPERATORS = ("torch.ops.aten.", "torch.ops.prims.", "torch.ops.higher_order.", "_operator.", "math.", "torch.sym_")
# Operators that read or write files.
FILES = re.compile(r"\b(?:torch|ops\s*\.\s*aten)\s*\.\s*(?:save|load|from_file)\b")
# Operators of TorchScript that are not PyTorch's own.
CUSTOM = re.compile(r"\bops\s*\.\s*(?!aten\b|prim\b|prims\b|quantized\b)([A-Za-z_]\w*)")
# In an exported program, text that PyTorch evaluates as Python: symbolic sizes, and the guards on inputs.
EVALUATED = frozenset({"expr_str", "guards_code"})
EXPRESSION = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name, ast.Load, ast.Tuple),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Call, ast.keyword, ast.Subscript, ast.Attribute),
)
# What an expression may call and ask of what it names.
CALLED = re.compile(r"[A-Z]\w*|max|min|abs|int|float|bool|len|isinstance|_?as_\w+")
ASKED = re.compile(r"size|stride|storage_offset|shape|ndim|dim|sym_[a-z]+")
TEXT = re.compile(r"(?!.*__)[\w-]*")
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
            _check_names(path, archive.namelist())
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        raise Refused(f"{path.name} is a zip file that is cut off") from None
    if "archive_format" in names:
        return PROGRAM
    if "constants.pkl" in names:
        return SCRIPT
    return PICKLE if "data.pkl" in names else None


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raise Refused for an archive of which two readers may see different files."""
    if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
        raise Refused(f"{path.name} has two files of one name, or of several archives: what it holds is not certain")


def _check_size(path: Path, archive: zipfile.ZipFile) -> None:
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES or size > MAX_RATIO * max(path.stat().st_size, 2**20):
        raise Refused(f"{path.name} would unpack to {size:,} bytes, which no model of its size does")


def check_program(path: Path) -> None:
    """Raise Refused for an exported program that holds pickled objects, code, or operators that are not PyTorch's."""
    try:
        _check_program(path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"{path.name} is no program of torch.export, or is cut off ({type(error).__name__})") from error


def _check_program(path: Path) -> None:
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
        program = json.loads(archive.read(members[programs[0]]))
        _check_operators(path, program)
        for text in _evaluated(program):
            _check_expression(path, text)


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


def _evaluated(part: Any) -> Iterator[str]:
    """Yield the texts of a program that PyTorch evaluates."""
    if isinstance(part, dict):
        for name in EVALUATED & part.keys():
            values = part[name] if isinstance(part[name], list) else [part[name]]
            yield from (value if isinstance(value, str) else json.dumps(value) for value in values if value)
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _evaluated(each)


def _check_expression(path: Path, text: str) -> None:
    """Raise Refused for a text that is more than arithmetic on the sizes of tensors."""
    try:
        nodes: list[ast.AST] = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        nodes = [ast.Pass()]  # no expression at all
    for node in nodes:
        if not isinstance(node, EXPRESSION):
            break
        if isinstance(node, ast.Name) and "__" in node.id:
            break
        if isinstance(node, ast.Attribute) and not ASKED.fullmatch(node.attr):
            break
        # SymPy evaluates text that is handed to its classes, too.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not TEXT.fullmatch(node.value):
            break
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and CALLED.fullmatch(node.func.id))
        ):
            break
    else:
        return
    raise Refused(f"{path.name} holds {text[:60]!r} where a size or a guard should be: that would run when it is read")


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
