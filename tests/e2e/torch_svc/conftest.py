"""Real exports, and one torch_svc that a module's tests share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.torch_svc.harness import ROOT, Client, TorchSvc, client_of, started


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and export simple_nn as a user would."""
    folder = tmp_path_factory.mktemp("artifacts")
    for command in (
        ["training", "simple_nn", "--out", str(folder / "models")],
        ["export", "simple_nn", "--models", str(folder / "models"), "--out", str(folder / "exports")],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder / "exports"


@pytest.fixture(scope="session")
def reference(exports: Path) -> dict[str, object]:
    return dict(load_file(exports / "simple_nn" / "reference" / "1" / "reference.safetensors"))


@pytest.fixture(scope="module")
def service(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchSvc]:
    with started(exports, tmp_path_factory.mktemp("shared") / "run") as found:
        found.wait_for("ready on")
        yield found


@pytest.fixture
def client(service: TorchSvc) -> Iterator[Client]:
    with client_of(service) as found:
        yield found
