"""What an artifact was made from and with: fingerprint and tool versions."""

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np

from export.formats import FORMATS, formats_here
from export.trained import Trained
from servepath.protocols.stacks import STACKS

ROOT = Path(__file__).parent.parent
# Everything here that shapes an artifact, beside the model's own folder.
SOURCES = (
    "export/*.py",
    "export/stablehlo/*.py",
    "models/*.py",
    *(file for stack in STACKS.values() for file in stack.packed),
)


def fingerprint(trained: Trained) -> str:
    """Return a sha256 that changes when the weights' values, the spec, the exporter's source or its tools change."""
    made = [FORMATS[trained.model.framework, name] for name in formats_here(trained.model)]
    tools = versions(sorted({tool for each in made for tool in each.tools}))
    hashed = hashlib.sha256(
        json.dumps([trained.spec.to_dict(), tools, source_hashes(trained.name)], sort_keys=True).encode()
    )
    for name in sorted(trained.weights):
        values = np.ascontiguousarray(trained.weights[name])
        hashed.update(f"{name} {values.dtype.str} {values.shape} ".encode() + values.tobytes())
    return hashed.hexdigest()


def versions(tools: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution, and of Python."""
    return {"python": platform.python_version()} | {tool: metadata.version(tool) for tool in tools}


def source_hashes(model: str) -> dict[str, str]:
    """Return the sha256 of every source file that shapes a model's artifacts, by its relative name."""
    patterns = (*SOURCES, f"models/{model}/*.py", f"models/{model}/spec.toml")
    files = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
