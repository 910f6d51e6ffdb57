"""Kinds of sources: how each is recognised, which step reads it, and by which steps other formats come from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from export.formats import FORMATS
from export.importing.errors import TAKEN, Refused
from export.importing.torch_files import PICKLE, PROGRAM, SCRIPT, torch_kind
from servepath.protocols.stacks import STACKS


class Kind(NamedTuple):
    """A kind of source: the step that reads it, what that writes, and by which steps other formats come from it.

    tools: distributions, beside those of every import, that shape what is written.
    """

    step: str
    first: str
    others: Mapping[str, str]
    tools: Sequence[str] = ()


# The one format that no stack here serves.
STABLEHLO = "stablehlo"
FROM_SAVED_MODEL = {"onnx": "saved_model to onnx", "tflite": "saved_model to tflite"}
SAVED_MODEL_TOOLS = ("tensorflow", "tf2onnx", "ai-edge-litert")
FROM_TORCH, TORCH_TOOLS = {"onnx": "torch to onnx"}, ("torch", "onnxscript", "torch-model-archiver")
FROM_HUGGING_FACE = {
    "saved_model": "hugging face to saved_model",
    "tflite": FROM_SAVED_MODEL["tflite"],
    **FROM_TORCH,
}
HUGGING_FACE_TOOLS = (*TORCH_TOOLS, "transformers", "tensorflow", "keras", "ai-edge-litert")
KINDS = {
    "an ONNX file": Kind("read onnx", "onnx", {}),
    "a SavedModel": Kind("read saved_model", "saved_model", FROM_SAVED_MODEL, SAVED_MODEL_TOOLS),
    "a Keras file": Kind("read keras", "saved_model", FROM_SAVED_MODEL, (*SAVED_MODEL_TOOLS, "keras")),
    "a TFLite file": Kind("read tflite", "tflite", {}, ("ai-edge-litert",)),
    "a program of torch.export": Kind("read program", "mar", FROM_TORCH, TORCH_TOOLS),
    "a TorchScript file": Kind("read script", "mar", FROM_TORCH, TORCH_TOOLS),
    "a pickled module": Kind("read module", "mar", FROM_TORCH, TORCH_TOOLS),
    "a Python file": Kind("read module", "mar", FROM_TORCH, TORCH_TOOLS),
    "a Hugging Face folder": Kind("read hugging face", "mar", FROM_HUGGING_FACE, HUGGING_FACE_TOOLS),
}
# By what torch_files finds in a file.
TORCH_FILES = {
    PROGRAM: "a program of torch.export",
    SCRIPT: "a TorchScript file",
    PICKLE: "a pickled module",
}
# Where FlatBuffers say what a file is, and what TFLite's say.
TFLITE_MARK, TFLITE_AT = b"TFL3", 4


def kind_of(path: Path) -> str:
    """Return the kind of a source, a key of KINDS. Raises Refused."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "a SavedModel"
        if (path / "config.json").is_file():
            return "a Hugging Face folder"
        raise Refused(f"{path} is a folder without saved_model.pb or config.json; import takes {TAKEN}")
    if not path.is_file():
        raise Refused(f"{path} does not exist; import takes {TAKEN}")
    if path.suffix in {".keras", ".py"}:
        return "a Keras file" if path.suffix == ".keras" else "a Python file"
    with path.open("rb") as file:
        beginning = file.read(TFLITE_AT + len(TFLITE_MARK))
    if beginning[TFLITE_AT:] == TFLITE_MARK:
        return "a TFLite file"
    return TORCH_FILES.get(torch_kind(path) or "", "an ONNX file")


def files_of(path: Path, taken: Path, found: Mapping[str, Any]) -> Sequence[Path]:
    """Return the files that a version is made from: what was taken of a source, or the source itself.

    The latter where what is taken is not the same each time: of Keras' and PyTorch's files.
    """
    if "sources" in found:
        return [Path(file) for file in found["sources"]]
    if path.suffix == ".keras" or taken.name == "mar":
        return [path]
    return sorted(each for each in taken.rglob("*") if each.is_file())


def with_stablehlo(kind: Kind) -> Kind:
    """Return the kind with the step that writes StableHLO. Raises Refused where there is none, or not what it needs."""
    made = FORMATS["torch", STABLEHLO]
    if FROM_TORCH.items() - kind.others.items():
        raise Refused("--stablehlo is for what PyTorch reads: its files and Hugging Face folders")
    if missing := made.missing():
        raise Refused(f"--stablehlo: {made.how_to_install(missing)}")
    return kind._replace(others={**kind.others, STABLEHLO: "torch to stablehlo"}, tools=(*kind.tools, *made.tools))


def with_precisions(kind: Kind, precisions: Sequence[str]) -> Kind:
    """Return the kind with steps that write formats in reduced precisions. Raises Refused where there is none to."""
    steps: dict[str, str] = {}
    for precision in precisions:
        stacks = [stack for stack in STACKS.values() if precision in stack.reduced]
        fitting = [stack for stack in stacks if stack.artifact_format in {kind.first, *kind.others}]
        if not fitting:
            names = ", ".join(stack.name for stack in stacks)
            raise Refused(f"--precision {precision} is for what is served on {names}, as which this cannot be written")
        for stack in fitting:
            reduced = stack.in_precision(precision).artifact_format
            steps[reduced] = f"{stack.artifact_format} to {reduced}"
    return kind._replace(others={**kind.others, **steps})
