"""A SavedModel that nobody here made: read with care, tried in a session as TensorFlow Serving runs it, and copied.

Python's loader of SavedModels is another one, and refuses some that the server serves; that is said and is no reason
to refuse.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from export.importing.axes import Axes
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import Declared, Proof, Run, cut, first_line, prove
from models import frameworks
from servepath.protocols.arrays import NAMES

tensorflow = frameworks.tensorflow()
tensorflow.get_logger().setLevel("ERROR")

SIGNATURE, TAGS, INDEX = "serving_default", ["serve"], "saved_model.pb"
# What a SavedModel is made of (https://www.tensorflow.org/guide/saved_model); anything else in its folder is left.
PARTS = (INDEX, "fingerprint.pb", "variables", "assets", "assets.extra")
MAX_BYTES = 2**32
# Operations that run a caller's Python, read or write files of the server's machine, or talk to other machines: all
# whose names have one of these parts, since there are ten to a kind. Looked for among the 1,910 of TensorFlow 2.21.
UNSAFE = re.compile(
    "PyFunc|File|Reader|Writer|Record|Dataset|Iterator|Snapshot|Summary|Print|Debug|Dump|Save|Restore|Checkpoint|Abort"
    "|Rpc|Remote|Send|Recv|ImportEvent|SessionTensor|SessionHandle|^ImmutableConst$|^LoadAndRemapMatrix$|codeProto"
    "|^GenerateVocabRemapping$|^FixedUnigramCandidateSampler$|^Skipgram$"
)
# What every SavedModel has, for its variables: no call and no initialization may come to it; loading reads, and may
# not write.
CHECKPOINT = frozenset({"SaveV2", "RestoreV2", "ShardedFilename", "ShardedFilespec", "MergeV2Checkpoints"})
WRITING = CHECKPOINT - {"RestoreV2"}
# What holds a variable: of TensorFlow 2, of TensorFlow 1, and of what came before.
VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
# Where older SavedModels name what runs when they are loaded.
INIT = ("saved_model_main_op", "legacy_init_op")


def import_saved_model(
    path: Path,
    folder: Path,
    hints: Hints,
    name: str,
    samples: Sequence[Arrays] = (),
    *,
    weights: Sequence[tuple[str, int]] = (),
) -> tuple[Proof, dict[str, str]]:
    """Copy the SavedModel into FOLDER; return what the model is and facts for the manifest.

    weights: dtypes and numbers of elements as their writer knows them, in place of what the graph says. Raises Refused
    with the one reason why it cannot be served.
    """
    copy_parts(path, folder)
    if hints.names:
        raise Refused("a SavedModel is served under the names of its signature: leave [names] out of the spec file")
    session = Session(folder)
    weights = weights or list(session.weights())
    proof = prove(session.declared(), session.run, hints, samples, session.declared_outputs(), weights=weights)
    _write_warmup(proof, folder, name)
    if note := _python_loader(folder, proof):
        proof = replace(proof, notes=(*proof.notes, note))
    return proof, {"tensorflow": str(tensorflow.__version__)}


def adopt(path: Path, folder: Path, proof: Proof, name: str) -> None:
    """Copy a SavedModel of our own making into FOLDER, with its warm-up record."""
    copy_parts(path, folder)
    _write_warmup(proof, folder, name)


def load(folder: Path) -> Run:
    """Return a function that runs the copy as TensorFlow Serving does."""
    return Session(folder).run


def copy_parts(path: Path, folder: Path) -> None:
    """Copy what a SavedModel is made of, with the usual modes. Raises Refused for links and for more than 4 GiB."""
    size = 0
    for each in _entries(path):
        if each.is_symlink():
            raise Refused(f"{each.relative_to(path)} is a link: a SavedModel holds its files itself")
        size += each.stat().st_size if each.is_file() else 0
    if size > MAX_BYTES:
        raise Refused(f"the SavedModel has {size:,} bytes, at most {MAX_BYTES:,} are taken")
    for each in _entries(path):
        target = folder / each.relative_to(path)
        if each.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif each.is_file():
            shutil.copyfile(each, target)  # whose modes are not ours: servers read it as another user


def _entries(path: Path) -> Iterator[Path]:
    """Yield every file and folder of the parts, the parts themselves first; nothing behind a link."""
    for part in PARTS:
        yield path / part
        if not (path / part).is_symlink():
            for root, folders, names in os.walk(path / part):
                yield from (Path(root, name) for name in (*folders, *names))


class Session:
    """A SavedModel's serving_default signature in a session. Raises Refused where there is none that can be called."""

    def __init__(self, folder: Path) -> None:
        _check_file(folder / INDEX)
        self.graph = tensorflow.Graph()
        config = tensorflow.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        self.session = tensorflow.compat.v1.Session(graph=self.graph, config=config)
        try:
            with self.graph.as_default():
                loaded = tensorflow.compat.v1.saved_model.load(self.session, TAGS, str(folder))
        except Exception as error:
            raise _unloadable(error) from error
        signatures = loaded.signature_def
        if SIGNATURE not in signatures:
            there = ", ".join(sorted(name for name in signatures if not name.startswith("__"))) or "none"
            raise Refused(f"it has no signature {SIGNATURE!r}, which callers get; there are: {there}")
        self.inputs, self.outputs = dict(signatures[SIGNATURE].inputs), dict(signatures[SIGNATURE].outputs)
        self._check_names()
        for what, tensors in (("input", self.inputs), ("output", self.outputs)):
            for name, info in tensors.items():
                if info.WhichOneof("encoding") != "name":
                    raise Refused(f"{what} {name!r} is no dense tensor; a call carries dense tensors alone")
                if _dtype(info) is None:
                    kind = tensorflow.as_dtype(info.dtype).name
                    raise Refused(f"{what} {name!r} is of {kind}, which import cannot draw or compare")

    def _check_names(self) -> None:
        """Raise Refused for a name that a spec cannot have: here none can be changed, the server knows no other."""
        if both := sorted(self.inputs.keys() & self.outputs.keys()):
            raise Refused(f"an input and an output of its signature are both called {both[0]!r}")
        for name in (*self.inputs, *self.outputs):
            if "#" in name or not name.isprintable():
                raise Refused(
                    f"its signature has the name {name!r}, and no name served here has '#' or what does not print"
                )

    def declared(self) -> Sequence[Declared]:
        """Return the inputs. Raises Refused for one whose number of axes is open."""
        found = []
        for name, info in sorted(self.inputs.items()):
            if info.tensor_shape.unknown_rank:
                raise Refused(f"input {name!r} declares no number of axes")
            found.append(Declared(name, str(_dtype(info)), _axes(info)))
        return found

    def declared_outputs(self) -> dict[str, Axes]:
        """Return the axes of each output, none where their number is open."""
        return {name: _axes(info) for name, info in self.outputs.items()}

    def weights(self) -> Iterator[tuple[str, int]]:
        """Yield dtype and size of each variable and constant that the signature's outputs are computed from."""
        for node in _reached(self.graph.as_graph_def(), [info.name for info in self.outputs.values()]):
            if node.op in VARIABLES:
                dtype, shape = node.attr["dtype"].type, node.attr["shape"].shape
            elif node.op == "Const":
                dtype, shape = node.attr["dtype"].type, node.attr["value"].tensor.tensor_shape
            else:
                continue
            yield tensorflow.as_dtype(dtype).name, prod(max(dim.size, 1) for dim in shape.dim)

    def run(self, inputs: Arrays) -> Arrays:
        """Return the answer."""
        fetches = {name: info.name for name, info in self.outputs.items()}
        found = self.session.run(fetches, {self.inputs[name].name: values for name, values in inputs.items()})
        return {name: np.asarray(values) for name, values in found.items()}


def frozen(session: Session) -> Any:
    """Return the graph that the signature's outputs are computed by, with variables as constants."""
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 - nothing public does it

    return convert_to_constants.convert_variables_to_constants_from_session_graph(
        session.session,
        session.graph.as_graph_def(add_shapes=True),
        [info.name.partition(":")[0] for info in session.outputs.values()],
    )


def _axes(info: Any) -> Axes:
    return tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)


def _dtype(info: Any) -> str | None:
    try:
        return NAMES.get(np.dtype(tensorflow.as_dtype(info.dtype).as_numpy_dtype))
    except TypeError:
        return None


def _unloadable(error: Exception) -> Refused:
    return Refused(f"TensorFlow {tensorflow.__version__} cannot load it for serving: {first_line(error)}")


def _check_file(path: Path) -> None:
    """Raise Refused for a file with unsafe operations. Nothing of it has run: loading it runs what it says."""
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415 - after TensorFlow

    try:
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError as error:
        raise _unloadable(error) from error
    for meta in saved.meta_graphs:
        if unsafe := sorted(_unsafe(meta)):
            raise Refused(f"the graph runs {unsafe[0]}, which reaches beyond the model: code or files of the server's")


def _unsafe(meta: Any) -> set[str]:
    """Return the operations that no server should run."""
    graph = meta.graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    found = {node.op for node in nodes if UNSAFE.search(node.op)} - CHECKPOINT
    # Python's loader runs functions of the object graph to initialize objects.
    run = _reached(graph, _starts(meta), meta.object_graph_def.concrete_functions)
    restoring = _reached(graph, [meta.saver_def.restore_op_name])
    return found | CHECKPOINT & {node.op for node in run} | WRITING & {node.op for node in restoring}


def _starts(meta: Any) -> Iterator[str]:
    """Yield the nodes that calls fetch and that loading runs, but for the restoring of variables."""
    for signature in meta.signature_def.values():
        for info in signature.outputs.values():
            yield from (info.name, info.coo_sparse.values_tensor_name)
    for name in INIT:
        yield from meta.collection_def[name].node_list.value if name in meta.collection_def else ()


def _reached(graph: Any, starts: Iterable[str], functions: Iterable[str] = ()) -> list[Any]:
    """Return the nodes that these nodes are computed from, those of functions included."""
    nodes, found = {node.name: node for node in graph.node}, {}
    waiting = list(starts)
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in found:
            found[name] = nodes[name]
            waiting += nodes[name].input
    names = [*functions, *(name for node in found.values() for name in _functions(node))]
    return [*found.values(), *_bodies(graph, names)]


def _bodies(graph: Any, names: list[str]) -> Iterator[Any]:
    """Yield the nodes of functions, and of those that they call."""
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    while names:
        for node in bodies.pop(names.pop(), ()):
            yield node
            names += _functions(node)


def _functions(node: Any) -> list[str]:
    """Return what may be names of functions that a node calls: its operation's, and those in its attributes."""
    said = [function.name for value in node.attr.values() for function in (value.func, *value.list.func)]
    return [node.op, *said]


def _write_warmup(proof: Proof, folder: Path, name: str) -> None:
    """Write the record with which TensorFlow Serving tries a version before it replaces another one."""
    from export import warmup  # noqa: PLC0415 - it imports all of Keras' export

    warmup.write_record(_first_request(proof), folder, name)


def _first_request(proof: Proof) -> Arrays:
    group = {tensor.name: proof.groups[0][tensor.name] for tensor in proof.spec.inputs}
    return cut(group, slice(1)) if proof.spec.by_rows else group


def _python_loader(folder: Path, proof: Proof) -> str:
    """Return a note where tf.saved_model.load does not load what the session loaded."""
    try:
        loaded = tensorflow.saved_model.load(str(folder)).signatures[SIGNATURE]
        loaded(**{name: tensorflow.constant(values) for name, values in _first_request(proof).items()})
    except Exception as error:  # noqa: BLE001 - it rebuilds Python objects, and raises what these raise
        return f"tf.saved_model.load does not load it ({first_line(error)}); TensorFlow Serving's way does"
    return ""
