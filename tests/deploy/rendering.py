"""Manifests as kubectl renders them."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu", "gpu", "kserve", "autoscale", "loadtest")
KEEPER = "keeper"
# Everything that somebody may apply.
RENDERED = (*(f"overlays/{name}" for name in OVERLAYS), KEEPER)
TIMEOUT_S = 60
Document = dict[str, Any]


class RenderError(Exception):
    """kubectl renders no manifests; the text is what it says."""


@cache
def text(folder: Path) -> str:
    """Return what `kubectl kustomize` prints for a folder. Raises RenderError."""
    program = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if program is None:
        raise RenderError("there is no kubectl; run: make test-deploy")
    command = [program, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RenderError(done.stderr.strip())
    return done.stdout


def render(folder: Path) -> list[Document]:
    """Return a folder's documents, again for each caller. Raises RenderError."""
    return [document for document in yaml.safe_load_all(text(folder)) if document]


def ours(name: str) -> list[Document]:
    """Return the documents of one of RENDERED."""
    return render(ROOT / "deploy" / "k8s" / name)


def title(document: Document) -> str:
    """Return a document's kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"
