"""Exports folders that hold manifests over placeholder files: enough for a gateway, which never opens an artefact."""

import json
from pathlib import Path

from store import atomic, manifest
from store.spec import Spec, TensorSpec, Tolerance

SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", (-1, 2)),),
    outputs=(TensorSpec("y", "FP32", (-1, 1)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
PARITY = manifest.Parity(inputs=0, batch_sizes=(1,), max_abs_difference=0.0, batch_equals_singles=True)


def make_export(exports: Path, model: str, artefact_format: str, version: int = 1) -> manifest.Manifest:
    """Write one version folder with its manifest, make it the current one, and give the manifest."""
    folder = manifest.artefact_folder(exports, model, artefact_format, version)
    with atomic.new_folder(folder) as temporary:
        (temporary / "placeholder").write_text(f"{model} {artefact_format} {version}")
        files = manifest.hash_files(temporary)
        made = manifest.Manifest(
            model=model,
            format=artefact_format,
            version=version,
            spec=SPEC,
            files=files,
            contents=files,
            sha256=manifest.digest(files),
            source="placeholder",
            tools={},
            git_commit="unknown",
            parity=PARITY,
        )
        (temporary / manifest.MANIFEST).write_text(json.dumps(made.to_dict()))
    atomic.write_file(exports / model / "current", str(version))
    return made
