"""A class in a Python file with safetensors weights, or a whole pickled module -> an exported program.

A Python file is code that its user hands us to be run. A pickle is data that may run code, and is read where the user
says so.
"""

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from export import mar
from export.importing.axes import FIRST_SIZES, ROWS, Declared
from export.importing.draw import draw
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import first_line
from export.importing.torch_files import TRUST
from export.importing.torch_source import declared_inputs
from servepath.artifacts.spec import BATCH, TensorSpec

# Parameters of `forward` that take any name.
VARIABLE = frozenset({inspect.Parameter.VAR_KEYWORD})


def read_module(path: Path, hints: Hints) -> tuple[torch.nn.Module, list[Path]]:
    """Return the model that a Python file makes, with its weights, and the files that were read. Raises Refused."""
    weights = _weights(path, hints)
    try:
        module = _imported(path)
        model = _maker(module, hints.class_name, path)()
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{path.name} does not make a model: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise Refused(f"{path.name}: {hints.class_name} makes a {type(model).__name__}, which is no torch.nn.Module")
    try:
        mar.handler_module().load_weights(model, weights)
    except Exception as error:
        raise Refused(f"{weights.name} does not hold the weights of {path.name}: {_said(error)}") from error
    return model, [*_own_files(path), weights]


def _own_files(path: Path) -> list[Path]:
    """Return the file and those beside or below it that were imported from it: a change in any is another model."""
    folder = path.resolve().parent
    files = {Path(file).resolve() for each in list(sys.modules.values()) if (file := getattr(each, "__file__", None))}
    own = (file for file in files if file.is_relative_to(folder) and not file.is_relative_to(sys.prefix))
    return [path, *sorted(file for file in own if file != path.resolve())]


def read_pickle(path: Path, hints: Hints) -> tuple[torch.nn.Module, list[Path]]:
    """Return the model in a pickle, where its code is trusted, and the files that were read. Raises Refused."""
    if not hints.trust_code:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001 - PyTorch refuses what is more than tensors, by several kinds
            content = None
        if content is not None:
            return _module_of(path, content), [path]
        raise Refused(
            f"{path.name} is a pickle of Python objects, which can run code when it is read: save a program of "
            f"torch.export, or safetensors weights beside a Python file{TRUST}"
        )
    sys.path.append(str(path.parent))  # where its classes are
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise Refused(f"{path.name} cannot be unpickled: {type(error).__name__}: {first_line(error)}") from error
    return _module_of(path, model), _own_files(path)


def _module_of(path: Path, content: Any) -> torch.nn.Module:
    if not isinstance(content, torch.nn.Module):
        what = "weights without their model" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise Refused(f"{path.name} holds {what}; save them as safetensors, and import the Python file of the model")
    return content


def export(model: torch.nn.Module, inputs: Sequence[Declared], hints: Hints, target: Path) -> None:
    """Write the program that a model is for these inputs, its parameters by their names. Raises Refused."""
    names = [each.name for each in inputs]
    parameters = inspect.signature(model.forward).parameters.values()
    takes = {each.name for each in parameters}
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in VARIABLE]
    if (
        not names
        or not set(needed) <= set(names)
        or not (set(names) <= takes or VARIABLE & {p.kind for p in parameters})
    ):
        said = (
            f"[inputs] names {', '.join(names)}" if names else "the file does not say dtypes and shapes of its inputs"
        )
        raise Refused(
            f"{said}; forward takes {', '.join(takes)}: say them in a spec file (--spec), such as "
            '[inputs] x = { dtype = "FP32", shape = ["batch", 4] }'
        )
    write(Positional(model, names), inputs, hints, target)


class Positional(torch.nn.Module):  # type: ignore[misc]
    """A model that takes its tensors in an order: torch.export puts those by name into the order of `forward`."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return what the model returns."""
        return self.model(**dict(zip(self.names, tensors, strict=True)))


def write(model: torch.nn.Module, inputs: Sequence[Declared], hints: Hints, target: Path) -> None:
    """Write the exported program of a module that takes these inputs in their order. Raises Refused.

    Which axes it keeps open is the exporter's finding: one that the model fixes becomes a size.
    """
    why = ""
    for size in FIRST_SIZES:
        tensors = _example(inputs, hints, size)
        form = tuple(dict.fromkeys(_open(each), torch.export.Dim.AUTO) for each in inputs)
        try:
            program = torch.export.export(model.eval(), tensors, dynamic_shapes=(form,))
        except Exception as error:  # noqa: BLE001 - whatever the model and the exporter raise
            why = why or f"{type(error).__name__}: {_said(error)}"
            continue
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        torch.export.save(program, target)
        return
    raise Refused(f"torch.export cannot export it: {why}")


def _example(inputs: Sequence[Declared], hints: Hints, size: int) -> tuple[torch.Tensor, ...]:
    """Return tensors to export with: another size for each axis, since equal ones would be taken for one axis."""
    axes = list(dict.fromkeys(axis for each in inputs for axis in each.axes if isinstance(axis, str)))
    sizes = {axis: hints.sizes.get(axis, (size + place,))[0] for place, axis in enumerate(axes)} | {BATCH: ROWS + 1}
    sizes = {axis: min(size, hints.max_sizes.get(axis, size)) for axis, size in sizes.items()}
    tensors = [TensorSpec(each.name, each.dtype, tuple(axis or 1 for axis in each.axes)) for each in inputs]
    ranges = {name: limits for name, limits in hints.ranges.items() if name in {each.name for each in inputs}}
    arrays = draw(tensors, sizes, ranges, seed=0)
    return tuple(torch.from_numpy(arrays[each.name]) for each in inputs)


def _open(declared: Declared) -> list[int]:
    return [place for place, axis in enumerate(declared.axes) if not isinstance(axis, int)]


def module_inputs(hints: Hints) -> list[Declared]:
    """Return the inputs that the spec file declares."""
    return list(declared_inputs(hints).values())


def _imported(path: Path) -> Any:
    found = importlib.util.spec_from_file_location(f"imported_{path.stem}", path)  # a name that no package has
    if found is None or found.loader is None:
        raise Refused(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(found)
    sys.path.append(str(path.parent))  # what it imports may lie beside it
    sys.modules[module.__name__] = module
    found.loader.exec_module(module)
    return module


def _maker(module: Any, name: str, path: Path) -> Any:
    """Return what makes the model: what the spec file names, or the file's only class of a module."""
    kinds = {
        each: kind
        for each, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and issubclass(kind, torch.nn.Module)
    }
    if name:
        if not callable(maker := getattr(module, name, None)):
            raise Refused(
                f"{path.name} has no class or function {name!r}; it has {', '.join(kinds) or 'no module class'}"
            )
        return maker
    if len(kinds) != 1:
        has = f"the module classes {', '.join(kinds)}" if kinds else "no class of a torch.nn.Module"
        raise Refused(f'{path.name} has {has}: say which in a spec file (--spec), such as [torch] class = "Net"')
    return next(iter(kinds.values()))


def _weights(path: Path, hints: Hints) -> Path:
    """Return the safetensors file: what the spec file names, that of the same name, or the only one beside."""
    if hints.weights is not None:
        if not hints.weights.is_file():
            raise Refused(f"{hints.weights} does not exist")
        return hints.weights
    if (same := path.with_suffix(".safetensors")).is_file():
        return same
    there = sorted(path.parent.glob("*.safetensors"))
    if len(there) != 1:
        found = f"{len(there)} .safetensors files" if there else "no .safetensors file"
        raise Refused(
            f'{path.name} has {found} beside it: say which in a spec file, such as [torch] weights = "w.safetensors"'
        )
    return there[0]


def _said(error: Exception) -> str:
    """Return the first line of what PyTorch says, and the next one where that only introduces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(Exception(" ".join(lines[:2]))) if lines else type(error).__name__
