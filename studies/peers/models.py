"""The models that are asked: those that were exported, and two of the bench's own with large inputs."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from servepath.artifacts import atomic, manifest, reference
from servepath.artifacts.commit import git_commit
from servepath.artifacts.manifest import ArtifactError, Manifest, Parity
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.deployments_file import read_deployments
from studies.peers.rows import LARGE, MIDDLE, Tuning

# Elements of a row: 4 KiB and 600 KB of FP32.
SIZES: Mapping[str, int] = {MIDDLE: 1024, LARGE: 150_000}
ROWS = 8
SEED = 20_240
VERSION = 1
MAR = "mar"
# The stacks of all setups.
STACKS = {"onnx", "torchserve"}
Floats = npt.NDArray[np.float32]


def small_model(deployments: Path) -> str:
    """Return the model that SMALL stands for: the first of deployments.toml on every stack that is measured.

    Raises ArtifactError when there is none.
    """
    for one in read_deployments(deployments).models:
        if one.stacks.keys() >= STACKS:
            return one.model
    raise ArtifactError(f"{deployments} has no model on all of {', '.join(sorted(STACKS))}; see docs/add-a-path.md")


def prepare(exports: Path, own: Path, small: str) -> None:
    """Fill the folder `own` with a link to what was exported of the model `small` and with the bench's models.

    Raises ArtifactError when it has not been exported.
    """
    manifest.current_version(exports, small)
    own.mkdir(parents=True)
    (own / small).symlink_to((exports / small).resolve())
    for name, size in SIZES.items():
        _write_mean(own, name, size)


def tuned(exports: Path, own: Path, model: str, tuning: Tuning) -> None:
    """Fill the folder `own` with a model as exported, but for TorchServe's settings inside the .mar."""
    version = manifest.current_version(exports, model)
    source = manifest.artifact_folder(exports, model, MAR, version)
    made = manifest.verify(source)
    with atomic.new_folder(manifest.artifact_folder(own, model, MAR, version)) as folder:
        changed = _rewrite(source / f"{model}.mar", folder / f"{model}.mar", tuning)
        contents = {**made.contents, "model-config.yaml": changed}
        _write_manifest(folder, made, contents)
    (own / model / reference.FORMAT).symlink_to((exports / model / reference.FORMAT).resolve())
    atomic.write_file(own / model / "current", str(version))


def _rewrite(source: Path, target: Path, tuning: Tuning) -> str:
    """Copy an archive with other settings, and return the sha256 of these."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new, TemporaryDirectory() as folder:
        config = yaml.safe_load(old.read("model-config.yaml"))
        config |= {"batchSize": tuning.batch_size, "maxBatchDelay": tuning.max_batch_delay}
        config |= {"minWorkers": tuning.workers, "maxWorkers": tuning.workers}
        file = Path(folder, "model-config.yaml")
        file.write_text(yaml.safe_dump(config))
        for name in old.namelist():
            new.writestr(name, file.read_bytes() if name == file.name else old.read(name))
        return manifest.hash_file(file)


def _write_mean(own: Path, name: str, size: int) -> None:
    """Write y = the mean of x's row, x FP32 [-1, size], y FP32 [-1, 1], as ONNX and with its reference."""
    spec = Spec(
        inputs=(TensorSpec("x", "FP32", ("batch", size)),),
        outputs=(TensorSpec("y", "FP32", ("batch", 1)),),
        row_independent=True,
        tolerance=Tolerance(1e-5, 1e-5),
    )
    x = np.random.default_rng(SEED).uniform(-10, 10, (ROWS, size)).astype(np.float32)
    y = x.astype(np.float64).mean(axis=1, keepdims=True)
    content = _mean(size)
    parity = _parity(content, x, y)
    for form in ("onnx", reference.FORMAT):
        with atomic.new_folder(manifest.artifact_folder(own, name, form, VERSION)) as folder:
            if form == "onnx":
                (folder / "model.onnx").write_bytes(content)
            else:
                save_file({"x": x, "y": y}, folder / reference.FILE)
            files = manifest.hash_files(folder)
            made = Manifest(name, form, VERSION, spec, files, files, "", "bench", {}, git_commit(), parity)
            _write_manifest(folder, made, files)
    atomic.write_file(own / name / "current", str(VERSION))


def _mean(size: int) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _parity(content: bytes, x: Floats, y: npt.NDArray[np.float64]) -> Parity:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batch = session.run(["y"], {"x": x})[0]
    singles = np.concatenate([session.run(["y"], {"x": row[None]})[0] for row in x])
    return Parity(ROWS, (1, ROWS), float(np.abs(batch - y).max()), bool(np.allclose(batch, singles, 1e-5, 1e-5)))


def _write_manifest(folder: Path, made: Manifest, contents: Mapping[str, str]) -> None:
    raw = made.to_dict() | {
        "files": manifest.hash_files(folder),
        "contents": dict(contents),
        "sha256": manifest.digest(contents),
    }
    (folder / manifest.MANIFEST).write_text(json.dumps(raw, indent=2) + "\n")
