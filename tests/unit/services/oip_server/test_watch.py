"""Which versions a watcher tries to load, and when it tries one again."""

import logging
import shutil
from pathlib import Path

import pytest

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import MANIFEST, ArtifactError, artifact_folder
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version
from services.oip_server.models import Model, Models
from services.oip_server.watch import FIRST_PAUSE_S, Watcher
from tests.tiny_onnx import linear, make_export
from tests.unit.services.oip_server.test_repository import version_of

MODEL = "simple_nn"


class Served:
    """simple_nn with version 1 loaded. tried: the versions that the watcher tried to load; fault: how those end."""

    def __init__(self, exports: Path) -> None:
        self.exports = exports
        self.now = 0.0
        self.tried: list[int] = []
        self.fault: Exception | None = None
        self.export(1)
        folder = self.folder(1)
        self.model = Model(MODEL, folder.parent, {1: version_of(folder)}, 1)
        models = Models({MODEL: self.model}, "onnx")
        self._watcher = Watcher(models, self._make_version, self._on_change, lambda: self.now)

    def export(self, version: int) -> None:
        make_export(self.exports, MODEL, version, content=linear(version))

    def folder(self, version: int) -> Path:
        return artifact_folder(self.exports, MODEL, "onnx", version)

    def set_current(self, version: int) -> None:
        write_file(self.exports / MODEL / "current", str(version))

    async def look(self) -> int:
        """Look once; return the version that is served then."""
        await self._watcher.look(self.model)
        return self.model.current

    def _make_version(self, folder: Path) -> Version:
        self.tried.append(int(folder.name))
        if self.fault is not None:
            raise self.fault
        return version_of(folder)

    async def _on_change(self, model: Model) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "exports")


async def test_a_version_that_is_copied_file_by_file_is_served_once_it_is_whole(served: Served, tmp_path: Path) -> None:
    make_export(tmp_path / "elsewhere", MODEL, 2, content=linear(2))
    whole = artifact_folder(tmp_path / "elsewhere", MODEL, "onnx", 2)
    served.folder(2).mkdir()
    served.set_current(2)
    assert [await served.look(), await served.look()] == [1, 1]
    shutil.copy(whole / MANIFEST, served.folder(2))
    assert [await served.look(), await served.look()] == [1, 1]
    shutil.copy(whole / "model.onnx", served.folder(2))
    assert await served.look() == 2
    assert served.tried == [2, 2, 2]


async def test_a_version_that_was_moved_away_and_back_is_served_again(served: Served, tmp_path: Path) -> None:
    served.export(2)
    assert await served.look() == 2
    served.folder(2).rename(tmp_path / "away")
    served.set_current(1)
    assert (await served.look(), sorted(served.model.versions)) == (1, [1])
    (tmp_path / "away").rename(served.folder(2))
    served.set_current(2)
    assert await served.look() == 2


async def test_files_that_do_not_fit_are_read_again_when_they_or_those_of_the_reference_change(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.export(2)
    served.fault = ArtifactError("model.onnx does not match its manifest")
    for now in (0.0, 1e9):
        served.now = now
        assert await served.look() == 1
    assert served.tried == [2]
    write_file(artifact_folder(served.exports, MODEL, "reference", 2) / "more", "x")
    assert (await served.look(), await served.look(), served.tried) == (1, 1, [2, 2])
    write_file(served.folder(2) / "more", "x")
    assert (await served.look(), await served.look(), served.tried) == (1, 1, [2, 2, 2])
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert said == "simple_nn stays at version 1: model.onnx does not match its manifest"


@pytest.mark.parametrize("error", [EngineError("no memory"), OSError(5, "Input/output error")], ids=repr)
async def test_what_may_pass_by_itself_is_tried_again_after_ever_longer_pauses(
    served: Served, error: Exception
) -> None:
    served.export(2)
    served.fault = error
    assert [await served.look(), await served.look(), served.tried] == [1, 1, [2]]
    served.now = FIRST_PAUSE_S
    assert [await served.look(), await served.look(), served.tried] == [1, 1, [2, 2]]
    served.fault = None
    served.now += FIRST_PAUSE_S
    assert (await served.look(), served.tried) == (1, [2, 2])
    served.now += FIRST_PAUSE_S
    assert (await served.look(), served.tried) == (2, [2, 2, 2])


async def test_an_artifact_that_could_not_be_read_is_tried_again_after_a_pause(served: Served) -> None:
    served.export(2)
    served.fault = ArtifactError("manifest.json cannot be read")
    served.fault.__cause__ = OSError(5, "Input/output error")
    assert await served.look() == 1
    served.fault = None
    assert await served.look() == 1
    served.now = FIRST_PAUSE_S
    assert await served.look() == 2


async def test_another_current_version_is_tried_at_once(served: Served) -> None:
    served.set_current(2)  # which is not there
    assert await served.look() == 1
    served.set_current(3)
    assert (await served.look(), served.tried) == (1, [2, 3])
