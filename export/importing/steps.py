"""The steps of an import: each reads what lies in the work folder, and writes one format beside it.

WORK/found.json: what the model is, and of each format that was written facts and the largest difference.
WORK/FORMAT: the files of a format. WORK/reference: the golden rows.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy

from export.importing.compare import batches_of, compare
from export.importing.draw import Arrays
from export.importing.hints import Hints
from export.importing.prove import Proof, Run
from export.importing.store import FOUND
from servepath.artifacts.reference import FILE, FORMAT, load_groups
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import FORM, LABEL, TEXT, TOKENIZER
from servepath.artifacts.text import FORMAT as TEXT_FORMAT

Step = Callable[[Path, Path, Hints, str], None]
NONE: Mapping[str, str] = MappingProxyType({})
EMULATED = "; TF32 was emulated on the CPU, and NVIDIA's GPUs alone serve it"


def read_onnx(work: Path, source: Path, hints: Hints, name: str, samples: Sequence[Arrays] = ()) -> None:  # noqa: ARG001 - a Step
    """Read an ONNX file: WORK/onnx."""
    from export.importing import onnx_source  # noqa: PLC0415 - a step imports its framework alone

    folder = _new(work, "onnx")
    proof, facts = onnx_source.import_onnx(source, folder, hints, samples or hints.read_samples())
    write(work, proof, "onnx", facts, onnx_source.load(folder))


def read_saved_model(
    work: Path, source: Path, hints: Hints, name: str, weights: Sequence[tuple[str, int]] = ()
) -> None:
    """Read a SavedModel: WORK/saved_model."""
    from export.importing import saved_model_source  # noqa: PLC0415

    folder = _new(work, "saved_model")
    samples = hints.read_samples()
    proof, facts = saved_model_source.import_saved_model(source, folder, hints, name, samples, weights=weights)
    write(work, proof, "saved_model", facts, saved_model_source.load(folder))


def read_keras(work: Path, source: Path, hints: Hints, name: str) -> None:
    """Read a .keras file: written as a SavedModel, which is read like any other."""
    from export.importing import keras_source  # noqa: PLC0415

    weights = keras_source.export(source, _new(work, "exported"), trust_code=hints.trust_code)
    read_saved_model(work, work / "exported", hints, name, weights)


def saved_model_to_onnx(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/onnx from WORK/saved_model."""
    from export.importing import onnx_source, saved_model_to_onnx  # noqa: PLC0415

    proof, folder = read_proof(work), _new(work, "onnx")
    facts = saved_model_to_onnx.convert(work / "saved_model", folder, proof.spec)
    add(work, "onnx", facts, compare(proof, onnx_source.load(folder)))


def read_program(work: Path, source: Path, hints: Hints, name: str, declared: Sequence[Any] = ()) -> None:
    """Read a program of torch.export: WORK/mar, packed with its handler when it is stored."""
    from export.importing import torch_source  # noqa: PLC0415

    folder = _new(work, "mar")
    proof, facts = torch_source.import_program(source, folder, hints, hints.read_samples(), declared)
    write(work, proof, "mar", facts, torch_source.load(folder, name, proof.spec))


def read_script(work: Path, source: Path, hints: Hints, name: str) -> None:
    """Read a TorchScript file: WORK/mar, as of a program."""
    from export.importing import torch_source  # noqa: PLC0415

    folder = _new(work, "mar")
    proof, facts = torch_source.import_script(source, folder, hints, hints.read_samples())
    write(work, proof, "mar", facts, torch_source.load(folder, name, proof.spec))


def read_module(work: Path, source: Path, hints: Hints, name: str) -> None:
    """Read a class in a Python file, or a pickled module: exported as a program, which is read like any other."""
    from export.importing import torch_module  # noqa: PLC0415

    if source.suffix == ".py":
        model, files = torch_module.read_module(source, hints)
    else:
        model, files = torch_module.read_pickle(source, hints)
    inputs = torch_module.module_inputs(hints)
    exported = _new(work, "exported") / "model.pt2"
    torch_module.export(model, inputs, hints, exported)
    read_program(work, exported, hints, name, inputs)
    note_sources(work, files)


def read_hugging_face(work: Path, source: Path, hints: Hints, name: str) -> None:
    """Read a Hugging Face folder: exported as a program, which is read like any other."""
    from export.importing import hugging_face, hugging_face_text  # noqa: PLC0415

    exported = _new(work, "exported") / "model.pt2"
    found = hugging_face.export(source, exported, hints)
    read_program(work, exported, found.hints, name, found.inputs)
    note_sources(work, found.files)
    form, said = found.text, found.note
    if form is not None:
        form, said = hugging_face_text.fitted(form, read_proof(work).spec, found.hints)
    if form is not None:
        folder = _new(work, TEXT_FORMAT)
        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
        (folder / FORM).write_text(form.to_json())
        said = f"callers may send texts as {TEXT!r}, BYTES [-1], and get a {LABEL!r} with the answer"
    note(work, said)


def hugging_face_to_saved_model(work: Path, source: Path, hints: Hints, name: str) -> None:
    """Write WORK/saved_model: the same network in Keras with the weights carried over."""
    from export.importing import distilbert_keras, saved_model_source  # noqa: PLC0415

    proof, exported = read_proof(work), _new(work, "exported_keras")
    facts = distilbert_keras.export(source, exported, hints, proof.spec)
    folder = _new(work, "saved_model")
    saved_model_source.adopt(exported, folder, proof, name)
    add(work, "saved_model", facts, compare(proof, saved_model_source.load(folder)))


def torch_to_onnx(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/onnx from WORK/mar."""
    from export.importing import onnx_source, torch_to_onnx  # noqa: PLC0415

    proof, folder = read_proof(work), _new(work, "onnx")
    facts = torch_to_onnx.convert(work / "mar", folder, proof)
    add(work, "onnx", facts, compare(proof, onnx_source.load(folder)))


def torch_to_stablehlo(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/stablehlo from WORK/mar."""
    from export.importing import torch_to_stablehlo  # noqa: PLC0415
    from export.stablehlo import file  # noqa: PLC0415

    proof, folder = read_proof(work), _new(work, "stablehlo")
    facts = torch_to_stablehlo.convert(work / "mar", folder, proof.spec)
    add(work, "stablehlo", facts, compare(proof, file.load(folder)))


def saved_model_to_tflite(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/tflite from WORK/saved_model: the signature's names are the file's, too."""
    from export.importing import saved_model_to_tflite, tflite_source  # noqa: PLC0415

    proof, folder = read_proof(work), _new(work, "tflite")
    facts = saved_model_to_tflite.convert(work / "saved_model", folder)
    add(work, "tflite", facts, compare(proof, tflite_source.load(folder, NONE)))


def onnx_to_fp16(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/onnx-fp16 from WORK/onnx."""
    _reduce_onnx(work, hints, "fp16")


def onnx_to_int8(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/onnx-int8 from WORK/onnx."""
    _reduce_onnx(work, hints, "int8")


def onnx_to_tf32(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/onnx-tf32 from WORK/onnx: the same file, judged by one that a CPU computes nearly as a GPU would."""
    from export.importing import onnx_reduced, onnx_source  # noqa: PLC0415

    emulated = _new(work, "emulated")
    onnx_reduced.write_emulated_tf32(work / "onnx", emulated)
    _reduce_onnx(work, hints, "tf32", onnx_source.load(emulated))


def mar_to_bf16(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Write WORK/mar-bf16 from WORK/mar."""
    from export.importing import torch_reduced, torch_source  # noqa: PLC0415

    proof, folder = read_proof(work), _new(work, "mar-bf16")
    facts = torch_reduced.write(work / "mar", folder, "bf16", proof, hints)
    full, reduced = (torch_source.load(each, name, proof.spec) for each in (work / "mar", folder))
    _add_judged(work, hints, folder.name, facts, (full, reduced))


def _reduce_onnx(work: Path, hints: Hints, precision: str, emulated: Run | None = None) -> None:
    """Write and judge WORK/onnx in a precision, by `emulated` where what was written does not compute in it here."""
    from export.importing import onnx_reduced, onnx_source  # noqa: PLC0415

    folder = _new(work, f"onnx-{precision}")
    facts = onnx_reduced.write(work / "onnx", folder, precision)
    runs = (onnx_source.load(work / "onnx"), emulated or onnx_source.load(folder))
    _add_judged(work, hints, folder.name, facts, runs)


def _add_judged(
    work: Path, hints: Hints, artifact_format: str, facts: Mapping[str, str], runs: tuple[Run, Run]
) -> None:
    """Note a format in a reduced precision, if it passes the gate. runs: of the model in full and in that precision."""
    from export.importing import reduced  # noqa: PLC0415

    proof, text, precision = read_proof(work), work / TEXT_FORMAT, artifact_format.rpartition("-")[2]
    spec, cost = reduced.judge(proof, runs, hints, precision, text if text.is_dir() else None)
    difference = compare(replace(proof, spec=spec), runs[1])
    said = f"{cost}{EMULATED if precision == 'tf32' else ''}"
    add(work, artifact_format, {**facts, "cost": said}, difference, spec=spec)


def read_tflite(work: Path, source: Path, hints: Hints, name: str) -> None:  # noqa: ARG001 - a Step
    """Read a TFLite file: WORK/tflite."""
    from export.importing import tflite_source  # noqa: PLC0415

    folder = _new(work, "tflite")
    proof, facts, names = tflite_source.import_tflite(source, folder, hints, hints.read_samples())
    write(work, proof, "tflite", facts, tflite_source.load(folder, names), names=names)


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "read onnx": read_onnx,
        "read saved_model": read_saved_model,
        "read keras": read_keras,
        "saved_model to onnx": saved_model_to_onnx,
        "read program": read_program,
        "read script": read_script,
        "read module": read_module,
        "read hugging face": read_hugging_face,
        "hugging face to saved_model": hugging_face_to_saved_model,
        "torch to onnx": torch_to_onnx,
        "torch to stablehlo": torch_to_stablehlo,
        "read tflite": read_tflite,
        "saved_model to tflite": saved_model_to_tflite,
        "onnx to onnx-fp16": onnx_to_fp16,
        "onnx to onnx-int8": onnx_to_int8,
        "onnx to onnx-tf32": onnx_to_tf32,
        "mar to mar-bf16": mar_to_bf16,
    }
)


def write(
    work: Path,
    proof: Proof,
    artifact_format: str,
    facts: Mapping[str, str],
    run: Run,
    *,
    names: Mapping[str, str] = NONE,
) -> None:
    """Write what was found, the golden rows and the first format, which must answer as the model did.

    names: of tensors in the format's file, by public ones, where they differ.
    """
    difference = compare(proof, run)
    tensors = {
        name + (f"#{number}" if number else ""): np.asarray(values, order="C")
        for number, group in enumerate(proof.groups)
        for name, values in group.items()
    }
    (_new(work, FORMAT) / FILE).write_bytes(safetensors.numpy.save(tensors))
    found = {
        "spec": proof.spec.to_dict(),
        "notes": proof.notes,
        "batches": batches_of(proof.spec),
        "rows": sum(len(next(iter(group.values()))) if proof.spec.by_rows else 1 for group in proof.groups),
        "formats": {},
    }
    (work / FOUND).write_text(json.dumps(found))
    add(work, artifact_format, facts, difference, names=names)


def add(
    work: Path,
    artifact_format: str,
    facts: Mapping[str, str],
    difference: float,
    *,
    names: Mapping[str, str] = NONE,
    spec: Spec | None = None,
) -> None:
    """Note a format that has been written and agrees with the golden rows. spec: its own, where it has one."""
    found = json.loads((work / FOUND).read_text())
    made = {"facts": dict(facts), "difference": difference, "names": dict(names)}
    found["formats"][artifact_format] = made | ({"spec": spec.to_dict()} if spec else {})
    (work / FOUND).write_text(json.dumps(found, indent=2))


def note_sources(work: Path, files: Sequence[Path]) -> None:
    """Note the files that a version is made from, where they are other than what was taken of the source."""
    found = json.loads((work / FOUND).read_text())
    (work / FOUND).write_text(json.dumps({**found, "sources": [str(file.resolve()) for file in files]}, indent=2))


def note(work: Path, sentence: str) -> None:
    """Add a sentence for the user to those of the proof; nothing for an empty one."""
    found = json.loads((work / FOUND).read_text())
    found["notes"] += [sentence] * bool(sentence)
    (work / FOUND).write_text(json.dumps(found, indent=2))


def read_proof(work: Path) -> Proof:
    """Return what the first step found."""
    found = json.loads((work / FOUND).read_text())
    spec = Spec.from_dict(found["spec"])
    groups = [dict(group) for group in load_groups(work / FORMAT, spec)]
    return Proof(spec, groups, tuple(found["notes"]))


def _new(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir()
    return folder
