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

    folder = Path(found["SERVEPATH_TUNED"])
    assert found == {"A": "b", "SERVEPATH_TUNED": str(folder)}
    assert folder.is_relative_to(place.paths.run_dir / "tuned")
    assert tuned.find(folder) == tuned.find(place.source)


def test_services_that_run_keep_the_settings_that_they_were_started_with(place: Place) -> None:
    write_tuned(place.source, "m@onnx", {"threads": 4}, artifact_sha256=place.sha256)
    before = Path(place.start()["SERVEPATH_TUNED"])
    write_tuned(place.source, "m@onnx", {"threads": 1}, artifact_sha256=place.sha256)

    after = Path(place.start()["SERVEPATH_TUNED"])

    assert tuned.find(before)["m@onnx"].settings == {"threads": 4}
    assert tuned.find(after)["m@onnx"].settings == {"threads": 1}
    assert Path(place.start()["SERVEPATH_TUNED"]) == after


@pytest.mark.parametrize(
    ("one", "other", "used"),
    [
        (1, 2, {"workers": 2, "engine_threads": 2}),
        (2, 1, {"workers": 2, "engine_threads": 2}),
        (1, None, {"workers": 2}),
    ],
)
def test_what_a_server_has_once_is_the_largest_of_its_paths_or_the_default_where_one_has_none(
    tmp_path: Path, one: int, other: int | None, used: dict[str, int]
) -> None:
    stacks = "".join(f'[models.{name}]\ndefault = "torchserve"\n[models.{name}.stacks.torchserve]\n' for name in "mn")
    (tmp_path / "deployments.toml").write_text(stacks)
    hashes = [make_export(tmp_path / "exports", name, "mar").sha256 for name in "mn"]
    source, said = tmp_path / "tuned", list[str]()
    settings = {"workers": 2, "engine_threads": one}
    write_tuned(source, "m@torchserve", settings, artifact_sha256=hashes[0])
    if other is not None:
        write_tuned(source, "n@torchserve", {"engine_threads": other}, artifact_sha256=hashes[1])
    paths = RunPaths(tmp_path / "run", tmp_path / "exports", tmp_path / "deployments.toml")

    found = use_tuned(source, paths, ["torch_svc"], said.append, {})

    assert tuned.find(Path(found["SERVEPATH_TUNED"]))["m@torchserve"].settings == used
    why = "; engine_threads is one for all paths of torch_svc: the largest, or the default where a path has none"
    assert said[0].endswith(why) == (used != settings)


def test_a_trial_has_the_whole_server(tmp_path: Path) -> None:
    stacks = "".join(f'[models.{name}]\ndefault = "torchserve"\n[models.{name}.stacks.torchserve]\n' for name in "mn")
    (tmp_path / "deployments.toml").write_text(stacks)
    sha256 = make_export(tmp_path / "exports", "m", "mar").sha256
    source = write_tuned(tmp_path / "t", "m@torchserve", {"engine_threads": 1}, rounds=0, artifact_sha256=sha256)
    paths = RunPaths(tmp_path / "run", tmp_path / "exports", tmp_path / "deployments.toml")

    found = use_tuned(source, paths, ["torch_svc"], print, {})

    assert tuned.find(Path(found["SERVEPATH_TUNED"]))["m@torchserve"].settings == {"engine_threads": 1}


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
