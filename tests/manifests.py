"""Manifests over whatever a test has written, and the contract of the equivalent models: x [rows, 2] -> y [rows, 1]."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from servepath.artifacts import manifest
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance

NONE: Mapping[str, str] = MappingProxyType({})
SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", ("batch", 2)),),
    outputs=(TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)


def write_manifest(
    folder: Path, model: str, artifact_format: str, version: int, spec: Spec = SPEC, *, names: Mapping[str, str] = NONE
) -> manifest.Manifest:
    """Write a true manifest of the files in a folder, and return it."""
    files = manifest.hash_files(folder)
    made = manifest.Manifest(
        model=model,
        format=artifact_format,
        version=version,
        spec=spec,
        files=files,
        contents=files,
        sha256=manifest.digest(files),
        source="tests",
        tools={},
        git_commit="unknown",
        parity=manifest.Parity(inputs=0, batch_sizes=(1,), max_abs_difference=0.0, batch_equals_singles=True),
        names=dict(names),
    )
    (folder / manifest.MANIFEST).write_text(json.dumps(made.to_dict()))
    return made
