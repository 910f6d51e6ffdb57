"""PyTorch -> .mar for TorchServe: safetensors weights, the architecture, our handler; no pickle, no TorchScript."""

import hashlib
import importlib.util
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import safetensors.numpy
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import ModelExportUtils

from export.errors import ExportError
from export.parity import Predict
from export.trained import Trained
from models.registry import Arrays

TORCH_SVC = Path(__file__).parent.parent / "services" / "torch_svc"


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:
    """Write MODEL.mar."""
    architecture = _source(trained.model.builder)
    files = (trained.path, architecture, TORCH_SVC / "handler.py", TORCH_SVC / "model-config.yaml")
    config = ModelArchiverConfig(
        model_name=trained.name,
        version=str(version),
        handler="handler.py",
        serialized_file=trained.path.name,
        model_file=architecture.name,
        config_file="model-config.yaml",
    )
    # The archiver's command works in TMP/MODEL_NAME, removing what lies there: give it a folder of its own instead.
    with tempfile.TemporaryDirectory() as staging:
        for file in files:
            shutil.copy(file, staging)
        Path(staging, "spec.json").write_text(json.dumps(trained.spec.to_dict(), indent=2) + "\n")
        ModelExportUtils.archive(
            str(folder), trained.name, staging, ModelExportUtils.generate_manifest_json(config), config.archive_format
        )
    return {}


def load(folder: Path) -> Predict:
    """Return the archive's own handler, made as TorchServe makes it."""
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(_archive(folder)) as archive:
            archive.extractall(unpacked)
        described = json.loads(Path(unpacked, "MAR-INF", "MANIFEST.json").read_text())
        found = importlib.util.spec_from_file_location("handler", Path(unpacked, described["model"]["handler"]))
        if found is None or found.loader is None:
            raise ExportError(f"{folder}: the archive's handler is not a Python file")
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        properties = {"model_dir": unpacked, "gpu_id": None, "server_version": "none, parity check"}
        handler = module.Handler()
        handler.initialize(SimpleNamespace(system_properties=properties, manifest=described))

    def predict(inputs: Arrays) -> Arrays:
        """Predict the first row and the others as two requests of one batch, so that batching is checked too."""
        items = [{name: rows[part].tobytes() for name, rows in inputs.items()} for part in (slice(1), slice(1, None))]
        first, others = (safetensors.numpy.load(reply) for reply in handler.handle(items, None))
        return {name: np.concatenate([first[name], others[name]]) for name in first}

    return predict


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
