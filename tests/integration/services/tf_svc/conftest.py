import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tf_server import TfServer

BUILT = [
    "linear=1",
    "linear=2",
    "pair=1",
    "kinds=1",
    "fussy=1",
    "divided=1",
    *(f"moving={version}" for version in range(1, 8)),
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return exports of every test model; copy from them, never change them."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "tests.savedmodels", folder, *BUILT], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TfServer]:
    """Yield a running embedded server; its model `moving` has version 1 and is there to be changed."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("linear", "pair", "kinds", "fussy", "moving"):
        shutil.copytree(built / name / "saved_model" / "1", folder / name / "saved_model" / "1")
    with TfServer(folder, folder / "run") as running:
        running.wait_ready()
        yield running
