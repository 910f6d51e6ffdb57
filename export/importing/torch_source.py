"""A model of PyTorch's: an exported program or a TorchScript file, tried as TorchServe's handler runs it.

Every other source of PyTorch's becomes an exported program first. Outputs have the names of the model's results where
it returns a mapping or a named tuple, else `output`, or `output_0` and so on.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from export import mar
from export.importing.axes import Axes, Declared
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import NO_BOUNDS, Bounds, Proof, Run, first_line, prove
from export.importing.torch_files import check_program, check_script
from servepath.artifacts.spec import Spec

PROGRAM_FILE, SCRIPT_FILE = "model.pt2", "model.pt"
OUTPUT = "output"
# A bound from here on is no bound: torch.export says so of axes that it knows nothing of.
MAX_SIZE = 2**31
CPU = torch.device("cpu")
DOUBLE = torch.float64
DTYPES: Mapping[Any, str] = {
    torch.bool: "BOOL",
    torch.float16: "FP16",
    torch.float32: "FP32",
    torch.float64: "FP64",
    **{
        getattr(torch, f"{sign}int{bits}"): f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
    },
}
# Of TorchScript's numbers, what a caller sends for them.
NUMBERS: Mapping[str, str] = {"IntType": "INT64", "FloatType": "FP64", "BoolType": "BOOL"}


def import_program(
    path: Path, folder: Path, hints: Hints, samples: Sequence[Arrays] = (), declared: Sequence[Declared] = ()
) -> tuple[Proof, dict[str, str]]:
    """Write FOLDER/model.pt2; return what the model is and facts for the manifest.

    declared: the inputs as the one who exported the program knows them; hints about an axis that the program does
    not keep open are left out. Raises Refused.
    """
    check_program(path)
    shutil.copyfile(path, folder / PROGRAM_FILE)
    program = _loaded(path, torch.export.load)
    found = _program_inputs(program)
    inputs = [_renamed(own, each, hints) for own, each in zip(found, declared or found, strict=True)]
    fixed = _fixed(declared or found, inputs)
    hints = replace(
        hints,
        sizes={axis: sizes for axis, sizes in hints.sizes.items() if axis not in fixed},
        max_sizes={axis: most for axis, most in hints.max_sizes.items() if axis not in fixed},
    )
    run = _run(mar.handler_module().load_program(folder / PROGRAM_FILE, CPU), inputs, hints)
    weights = [(str(values.dtype), values.numel()) for values in program.state_dict.values()]
    # This program is another one than the one that `run` loaded: all modules of a program share its weights.
    exact = _run(mar.handler_module().caller(program, program.module().double()), inputs, hints, DOUBLE)
    proof = _proved(inputs, run, hints, samples, exact=exact, bounds=_bounds(program, inputs), weights=weights)
    notes = [f"axis {axis!r} is declared open and the program has it at {size} alone" for axis, size in fixed.items()]
    return replace(proof, notes=(*notes, *proof.notes)), {}


def import_script(
    path: Path, folder: Path, hints: Hints, samples: Sequence[Arrays] = ()
) -> tuple[Proof, dict[str, str]]:
    """Write FOLDER/model.pt, the file or the part of it that `hints` name; return what the model is. Raises Refused."""
    check_script(path)
    script = _part(_loaded(path, lambda file: torch.jit.load(file, map_location=CPU)), hints.part)
    inputs = _script_inputs(script, hints)
    script.eval().save(str(folder / SCRIPT_FILE))
    run = _run(mar.handler_module().load_script(folder / SCRIPT_FILE, CPU), inputs, hints)
    weights = [(str(values.dtype), values.numel()) for values in script.state_dict().values()]
    return _proved(inputs, run, hints, samples, weights=weights), {}


def load(folder: Path, name: str, spec: Spec) -> Run:
    """Return a function that runs what is served of a folder's files: an archive, by the handler in it."""
    with tempfile.TemporaryDirectory() as packed:
        mar.pack(name, 1, spec, sorted(folder.iterdir()), Path(packed))
        return mar.load(Path(packed))


def named(results: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return a model's results by name, in their order. Raises Refused for one that is no tensor."""
    if isinstance(results, torch.Tensor):
        return {prefix or OUTPUT: results}
    if hasattr(results, "_asdict"):
        results = results._asdict()  # a named tuple's public way
    if isinstance(results, list | tuple):
        parts = [((prefix or OUTPUT) + f"_{number}", each) for number, each in enumerate(results)]
    elif isinstance(results, Mapping):
        parts = [(f"{prefix}_{name}" if prefix else str(name), each) for name, each in results.items()]
    else:
        raise Refused(
            f"output {prefix or OUTPUT!r} is no tensor but a {type(results).__name__}; a reply carries tensors"
        )
    found: dict[str, torch.Tensor] = {}
    for name, each in parts:
        for inner, tensor in named(each, name).items():
            if inner in found:
                raise Refused(f"two outputs would be called {inner!r}; return them under other names")
            found[inner] = tensor
    return found


def _proved(
    inputs: Sequence[Declared],
    run: Run,
    hints: Hints,
    samples: Sequence[Arrays],
    *,
    exact: Run | None = None,
    bounds: Bounds = NO_BOUNDS,
    weights: Sequence[tuple[str, int]],
) -> Proof:
    weights = [(name.removeprefix("torch."), elements) for name, elements in weights]
    proof = prove(inputs, run, hints, samples, weights=weights, exact=exact, bounds=bounds)
    own = {public: name for name, public in hints.names.items()}
    tensors = [own.get(tensor.name, tensor.name) for tensor in proof.spec.inputs + proof.spec.outputs]
    if unknown := sorted(hints.names.keys() - set(tensors)):
        raise Refused(f"[names] has {unknown[0]!r}; the model has {', '.join(tensors)}")
    return proof


def _run(model: Callable[..., Any], inputs: Sequence[Declared], hints: Hints, kind: Any = None) -> Run:
    """Return a function from arrays by name to arrays by name. kind: what it makes of tensors that have fractions."""

    def run(asked: Arrays) -> dict[str, NDArray[Any]]:
        tensors = [torch.from_numpy(asked[each.name].copy()) for each in inputs]
        if kind is not None:
            tensors = [tensor.to(kind) if tensor.is_floating_point() else tensor for tensor in tensors]
        with torch.inference_mode():
            results = named(model(*tensors))
        # What the model returns may be what it was given, and numpy cannot read bfloat16.
        for name, tensor in results.items():
            if tensor.dtype not in DTYPES:
                raise Refused(f"output {name!r} is {tensor.dtype}, which import cannot compare")
        answer = {hints.names.get(name, name): tensor.detach().cpu().numpy().copy() for name, tensor in results.items()}
        if len(answer) < len(results):
            raise Refused("[names] calls two outputs the same")
        return answer

    return run


def _loaded(path: Path, load: Callable[[Any], Any]) -> Any:
    try:
        return load(path)
    except Exception as error:
        raise Refused(f"PyTorch {torch.__version__} does not load {path.name}: {first_line(error)}") from error


def _renamed(own: Declared, declared: Declared, hints: Hints) -> Declared:
    """Return an input under its public name; an axis has the declared name only where the program's is open."""
    axes = [named if isinstance(axis, str) else axis for axis, named in zip(own.axes, declared.axes, strict=True)]
    return Declared(hints.names.get(declared.name, declared.name), own.dtype, tuple(axes))


def _fixed(declared: Sequence[Declared], inputs: Sequence[Declared]) -> dict[str, int]:
    """Return the axes that are declared open and that a program has at one size, with that size."""
    pairs = [pair for said, own in zip(declared, inputs, strict=True) for pair in zip(said.axes, own.axes, strict=True)]
    still_open = {size for _, size in pairs if isinstance(size, str)}
    return {
        axis: size for axis, size in pairs if isinstance(axis, str) and isinstance(size, int) and axis not in still_open
    }


def _program_inputs(program: Any) -> list[Declared]:
    """Return the inputs of an exported program; axes that it holds to be one have one name. Raises Refused."""
    axes: dict[str, str] = {}
    found = []
    for name, value in _taken(program):
        if not isinstance(value, torch.Tensor):
            raise Refused(
                f"input {name!r} is a number and no tensor; export the program with a tensor of no axes there"
            )
        if value.dtype not in DTYPES:
            raise Refused(f"input {name!r} is {value.dtype}, which import cannot draw or compare")
        shape: Axes = tuple(
            size if isinstance(size, int) else axes.setdefault(str(size), f"{name}_{place}")
            for place, size in enumerate(value.shape)
        )
        found.append(Declared(name, DTYPES[value.dtype], shape))
    return found


def _taken(program: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and example of each input; a constant is part of the program, and none."""
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    for given in program.graph_signature.input_specs:
        if given.kind.name == "USER_INPUT" and not hasattr(given.arg, "value"):
            yield given.arg.name, nodes[given.arg.name]


def _bounds(program: Any, inputs: Sequence[Declared]) -> Bounds:
    """Return the largest sizes of the inputs' open axes that the program itself asserts, by the inputs' names."""
    found = {}
    for declared, (_, value) in zip(inputs, _taken(program), strict=True):
        for place, size in enumerate(value.shape):
            known = None if isinstance(size, int) else program.range_constraints.get(size.node.expr)
            if known is not None and known.upper < MAX_SIZE:
                found[declared.name, place] = int(known.upper)
    return found


def declared_inputs(hints: Hints) -> dict[str, Declared]:
    """Return the inputs that the spec file declares, by the model's own names."""
    return {name: Declared(name, tensor.dtype, tensor.shape) for name, tensor in hints.inputs.items()}


def _part(script: Any, name: str) -> Any:
    """Return a TorchScript module's part by its dotted name, itself for none. Raises Refused."""
    parts = {"": script, **dict(script.named_modules())}
    if name not in parts:
        there = ", ".join(each for each, _ in script.named_children()) or "none"
        raise Refused(f"the spec names the part {name!r}; the module's are {there}")
    return parts[name]


def _script_inputs(script: Any, hints: Hints) -> list[Declared]:
    """Return the inputs as the spec file declares them, in the order of `forward`. Raises Refused."""
    arguments = script.forward.schema.arguments[1:]
    said = ", ".join(f"{each.name} ({each.type})" for each in arguments)
    numbers = {each.name: NUMBERS.get(each.type.kind(), "") for each in arguments}
    said_inputs = declared_inputs(hints)
    # A number with a default is one only where something behind it was declared: arguments are given in their order.
    last = max((place for place, each in enumerate(arguments) if each.name in said_inputs), default=-1)
    asked = {e.name for place, e in enumerate(arguments) if place < last or not e.has_default_value()}
    known = {
        name: Declared(name, dtype, ()) for name, dtype in numbers.items() if dtype and name in asked
    } | said_inputs
    if unknown := sorted(known.keys() - numbers.keys()):
        raise Refused(f"[inputs] names {unknown[0]!r}; forward takes {said}")
    found = [each.name for each in arguments if each.name in known]
    needed = [each.name for each in arguments if not each.has_default_value()]
    if found != [each.name for each in arguments][: max(len(found), len(needed))]:
        raise Refused(
            f"the file does not say dtypes and shapes of its inputs: forward takes {said}; say them in a spec file "
            '(--spec), such as [inputs] x = { dtype = "FP32", shape = ["batch", 4] }'
        )
    return [known[name]._replace(name=hints.names.get(name, name)) for name in found]
