"""A TFLite file that nobody here made: read by LiteRT as the server does, tried, and copied as it is."""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.importing.axes import Axes
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.hints import Hints, printable
from export.importing.prove import Declared, Proof, Run, prove
from export.tflite_file import predictor
from servepath.artifacts.spec import OPEN
from servepath.artifacts.tflite import FILE, VERSION, TfliteError, TfliteModel
from servepath.protocols.arrays import NAMES

MAX_BYTES = 2**31
# Names of the file's types by their numbers, such as "float16".
TYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if name.isupper()}
# What LiteRT says of operators that are not its own, when tensors are allocated.
OTHERS = re.compile(r"unresolved custom op: [^\n]+?(?=\.?\n|$)|Select TensorFlow op\(s\)")


def import_tflite(
    path: Path, folder: Path, hints: Hints, samples: Sequence[Arrays] = ()
) -> tuple[Proof, dict[str, str], Mapping[str, str]]:
    """Copy the file to FOLDER/model.tflite.

    Return what the model is, facts for the manifest, and the file's names by public ones where they differ. Raises
    Refused with the one reason why it cannot be served.
    """
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} is larger than 2 GiB, which no TFLite file can be")
    shutil.copyfile(path, folder / FILE)
    model = read(folder / FILE)
    public = public_names([*model.inputs, *model.outputs], hints)
    declared = [Declared(public[own], _dtype("input", own, one), _axes(one)) for own, one in model.inputs.items()]
    outputs = {public[own]: _axes(one) for own, one in model.outputs.items() if _dtype("output", own, one)}
    names = {name: own for own, name in public.items() if own != name}
    proof = prove(declared, load(folder, names), hints, samples, outputs, weights=_weights(folder / FILE))
    return proof, {"litert": VERSION}, names


def read(file: Path) -> TfliteModel:
    """Return the model. Raises Refused for a file that LiteRT cannot load, or not without operators of others."""
    try:
        return TfliteModel(file)
    except TfliteError as error:
        raise Refused(f"LiteRT {VERSION} cannot load it: {error}") from error


def load(folder: Path, names: Mapping[str, str]) -> Run:
    """Return a function that runs the copy as litert_svc does, by public names."""
    predict = predictor(folder / FILE)
    public = {own: name for name, own in names.items()}

    def run(inputs: Arrays) -> Arrays:
        try:
            found = predict({names.get(name, name): values for name, values in inputs.items()})
        except RuntimeError as error:
            if others := OTHERS.search(str(error)):
                raise Refused(
                    f"LiteRT does not have all its operators: {others[0]}; no server here loads any"
                ) from error
            raise
        return {public.get(own, own): np.asarray(values) for own, values in found.items()}

    return run


def public_names(names: Iterable[str], hints: Hints) -> dict[str, str]:
    """Return the public name of each tensor, by the file's. Raises Refused for wrong [names], or two that are one."""
    own = list(dict.fromkeys(names))
    if unknown := sorted(hints.names.keys() - set(own)):
        raise Refused(f"the spec names {unknown[0]!r}; the model has {', '.join(map(repr, own))}")
    found = {name: hints.names.get(name, printable(name)) for name in own}
    public = list(found.values())
    if twice := [name for name in public if public.count(name) > 1]:
        raise Refused(
            f"two tensors of the model would be called {twice[0]!r}; say other [names] in a spec file (--spec)"
        )
    return found


def _weights(file: Path) -> Iterator[tuple[str, int]]:
    """Yield dtype and number of elements of each tensor that the file holds."""
    model = schema.Model.GetRootAs(file.read_bytes())
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            held = model.Buffers(tensor.Buffer())
            if held.DataLength() or held.Size():  # beyond 2 GiB, the data are behind the table
                yield TYPES.get(tensor.Type(), ""), prod(map(tensor.Shape, range(tensor.ShapeLength())))


def _dtype(what: str, name: str, details: Mapping[str, Any]) -> str:
    kind = np.dtype(details["dtype"])
    if kind not in NAMES:
        raise Refused(f"{what} {name!r} is of {kind.name}, which import cannot draw or compare")
    return NAMES[kind]


def _axes(details: Mapping[str, Any]) -> Axes:
    return tuple(None if size == OPEN else int(size) for size in details["shape_signature"])
