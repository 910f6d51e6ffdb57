from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from servepath.protocols import tuned
from servepath.runner.config import RunPaths
from servepath.runner.processes import RunError
from servepath.runner.tuned import use_tuned
from tests.exports import make_export
from tests.tuned import write_tuned

SERVICES = ["onnx_svc", "gateway"]


@dataclass
class Place:
    """Where services would run: `start` applies the settings of `source`."""

    paths: RunPaths
    source: Path
    sha256: str
    start: Callable[[], dict[str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "deployments.toml").write_text('[models.m]\ndefault = "onnx"\n[models.m.stacks.onnx]\n')
    manifest = make_export(tmp_path / "exports", "m", "onnx")
    paths = RunPaths(tmp_path / "run", tmp_path / "exports", tmp_path / "deployments.toml")
    source = tmp_path / "tuned"
    said: list[str] = []
    return Place(paths, source, manifest.sha256, lambda: use_tuned(source, paths, SERVICES, said.append, {"A": "b"}))


def test_services_are_told_where_the_copies_in_use_are(place: Place) -> None:
    write_tuned(place.source, "m@onnx", {"threads": 4}, artifact_sha256=place.sha256)

    found = place.start()

    folder = place.paths.run_dir / "tuned"
    assert found == {"A": "b", "SERVEPATH_TUNED": str(folder)}
    assert tuned.find(folder) == tuned.find(place.source)


def test_a_file_that_is_gone_is_no_longer_in_use(place: Place) -> None:
    write_tuned(place.source, "m@onnx", {"threads": 4}, artifact_sha256=place.sha256)
    write_tuned(place.paths.run_dir / "tuned", "old@onnx", {"threads": 2})
    place.start()

    assert list(tuned.find(place.paths.run_dir / "tuned")) == ["m@onnx"]


def test_no_settings_at_all_are_refused_with_the_command_that_finds_some(place: Place) -> None:
    write_tuned(place.source, "other@onnx", {"threads": 4})

    with pytest.raises(RunError, match=r"tuned has no tuned settings of a path in .*deployments.toml; run: make tune"):
        place.start()


def test_settings_for_another_artifact_are_refused(place: Place) -> None:
    write_tuned(place.source, "m@onnx", {"threads": 4})

    with pytest.raises(RunError, match=r"is for another artifact of m@onnx .*; run: servepath tune m@onnx"):
        place.start()
    assert not (place.paths.run_dir / "tuned").exists()


def test_settings_for_another_machine_are_refused(place: Place) -> None:
    write_tuned(place.source, "m@onnx", {"threads": 4}, artifact_sha256=place.sha256, host="64 cores, Big")

    with pytest.raises(RunError, match=r"is for another machine .64 cores, Big; this one: "):
        place.start()
