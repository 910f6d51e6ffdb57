"""What several end-to-end tests stand on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import workplace
from tests.e2e.workplace import Workplace


@pytest.fixture(scope="session")
def ready_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and export once; return the artifacts folder. Anyone who changes it takes a copy."""
    place = workplace.make(tmp_path_factory.mktemp("ready-made"))
    for stage in ("training", "export"):
        code, text = place.run(stage)
        assert code == 0, text
    return place.folder / "artifacts"


@pytest.fixture
def here(tmp_path: Path, ready_made: Path) -> Iterator[Workplace]:
    place = workplace.make(tmp_path)
    shutil.copytree(ready_made, tmp_path / "artifacts")
    yield place
    place.run("servepath.runner", "down")
