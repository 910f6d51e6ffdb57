"""PyTorch -> .mar for TorchServe: the model's files, our handler and its settings.

Of a model that is trained here: safetensors weights and the architecture; no pickle, no TorchScript.
"""

import hashlib
import importlib.util
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import safetensors.numpy
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import ModelExportUtils

from export.errors import ExportError
from export.parity import Predict
from export.trained import Trained
from models.registry import Arrays
from servepath.artifacts.spec import Spec

TORCH_SVC = Path(__file__).parent.parent / "services" / "torch_svc"
HANDLER = "handler.py"


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:
    """Write MODEL.mar."""
    pack(trained.name, version, trained.spec, (trained.path, _source(trained.model.builder)), folder)
    return {}


def pack(name: str, version: int, spec: Spec, model: Sequence[Path], folder: Path) -> None:
    """Write FOLDER/NAME.mar of a model's files: what its handler loads, and the architecture where that needs one."""
    serialized, *architecture = model
    config = ModelArchiverConfig(
        model_name=name,
        version=str(version),
        handler=HANDLER,
        serialized_file=serialized.name,
        model_file=architecture[0].name if architecture else None,
        config_file="model-config.yaml",
    )
    # The archiver's command works in TMP/MODEL_NAME, removing what lies there: give it a folder of its own instead.
    with tempfile.TemporaryDirectory() as staging:
        for file in (*model, TORCH_SVC / HANDLER, TORCH_SVC / "model-config.yaml"):
            shutil.copy(file, staging)
        Path(staging, "spec.json").write_text(json.dumps(spec.to_dict(), indent=2) + "\n")
        ModelExportUtils.archive(
            str(folder), name, staging, ModelExportUtils.generate_manifest_json(config), config.archive_format
        )


def load(folder: Path) -> Predict:
    """Return the archive's own handler, made as TorchServe makes it."""
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(_archive(folder)) as archive:
            archive.extractall(unpacked)
        described = json.loads(Path(unpacked, "MAR-INF", "MANIFEST.json").read_text())
        module = handler_module(Path(unpacked, described["model"]["handler"]))
        properties = {"model_dir": unpacked, "gpu_id": None, "server_version": "none, parity check"}
        handler = module.Handler()
        handler.initialize(SimpleNamespace(system_properties=properties, manifest=described))

    def item(inputs: Arrays, rows: slice | None) -> dict[str, bytes]:
        parts = {name: values if rows is None else values[rows] for name, values in inputs.items()}
        shapes = {name: values.shape for name, values in parts.items()}
        return {module.SHAPES: json.dumps(shapes).encode()} | {name: each.tobytes() for name, each in parts.items()}

    def predict(inputs: Arrays) -> Arrays:
        """Predict the first row and the others as two requests of one batch, so that batching is checked too."""
        rows = (slice(1), slice(1, None)) if handler.row_independent else (None,)
        answers = [
            safetensors.numpy.load(reply) for reply in handler.handle([item(inputs, each) for each in rows], None)
        ]
        if not all(answers):
            raise ExportError(f"{folder}: the handler refuses the request")
        return (
            {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
            if len(answers) > 1
            else answers[0]
        )

    return predict


def handler_module(file: Path = TORCH_SVC / HANDLER) -> ModuleType:
    """Import a handler from its file, since it is no part of any package where it runs. Raises ExportError."""
    found = importlib.util.spec_from_file_location("handler", file)
    if found is None or found.loader is None:
        raise ExportError(f"{file}: the handler is not a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def contents(folder: Path) -> dict[str, str]:
    """Return the hashes of the archive's members, as the handler computes them of what TorchServe unpacked."""
    with zipfile.ZipFile(_archive(folder)) as archive:
        served = [name for name in archive.namelist() if not name.startswith("MAR-INF/")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in served}


def _archive(folder: Path) -> Path:
    (path,) = folder.glob("*.mar")
    return path


def _source(builder: str) -> Path:
    """Return the file of a "module:callable" without importing it."""
    found = importlib.util.find_spec(builder.partition(":")[0])
    if found is None or found.origin is None:
        raise ExportError(f"{builder} is not in a Python file")
    return Path(found.origin)
