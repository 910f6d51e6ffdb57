import math
from pathlib import Path

import pytest

from servepath.cli.cores import host_kind
from servepath.protocols import tuned
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.tuned import TunedError
from tests.exports import make_export
from tests.tuned import DEFAULT_LIMITS, make_tuned, write_tuned

SETTINGS = {"max_in_flight": 16, "threads": 4}
DEPLOYMENTS = """
[models.m]
default = "onnx"
[models.m.stacks.onnx]
max_in_flight = 2
max_queue = 7
[models.m.stacks.torchserve]
[models.n]
default = "onnx"
[models.n.stacks.onnx]
"""


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    made = make_tuned("m@onnx", SETTINGS, engine='said "so"\\', high=math.inf)

    file = tmp_path / "m@onnx.toml"
    file.write_text(made.to_toml())

    assert tuned.read(file) == made
    assert tuned.find(tmp_path) == {"m@onnx": made}


def test_what_it_says_is_how_good_and_how_sure() -> None:
    assert str(make_tuned("m@onnx", SETTINGS)) == (
        "m@onnx: max_in_flight 16, threads 4 (1.31 times the default's rate in rising blocks, 95 % CI over all looks "
        "1.22..1.40, 12 rounds, 2026-11-29)"
    )
    unsure = make_tuned("m@onnx", {}, low=0.9, best="threads 4", confirmed=False, goal="cpu")
    assert str(unsure) == (
        "m@onnx: the default settings; none was certainly better (threads 4: 1.31 times the default's requests a CPU "
        "second, 95 % CI 0.90..1.40, 12 rounds, not confirmed, 2026-11-29)"
    )
    assert str(make_tuned("m@onnx", {}, rounds=0)).endswith("(9 tried, 2026-11-29)")


def test_it_says_which_requests_it_is_for_unless_an_older_file_does_not(tmp_path: Path) -> None:
    made = make_tuned("m@onnx", SETTINGS, requests="64 rows, 4 connections")
    file = tmp_path / "m@onnx.toml"
    file.write_text(made.to_toml())
    assert tuned.read(file) == made
    assert "12 rounds with 64 rows, 4 connections, 2026-11-29" in str(made)

    file.write_text(made.to_toml().replace('requests = "64 rows, 4 connections"\n', ""))

    assert tuned.read(file).requests == ""


def test_a_precision_that_is_better_by_itself_is_no_default() -> None:
    assert str(make_tuned("m@onnx:int8", {})).startswith("m@onnx:int8: default (1.31 times the default's")


def test_two_files_for_one_path_are_refused(tmp_path: Path) -> None:
    folder = write_tuned(tmp_path, "m@onnx:int8", {})
    tuned.file_of(folder, "m@onnx").write_text(make_tuned("m@onnx:int8", {"threads": 4}).to_toml())

    with pytest.raises(TunedError, match=r"m@onnx.toml and .*m@onnx:int8.toml both have settings of m@onnx:int8; rem"):
        tuned.in_use(folder)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("threads = 4", "thread = 4", "thread is not what it may be"),
        ("threads = 4", "threads = 0", "threads is not what it may be"),
        ("threads = 4", 'threads = "4"', "threads is not what it may be"),
        ("threads = 4", "workers = 4", "workers is not what it may be"),  # TorchServe's
        ('goal = "rate"', 'goal = "fun"', "goal is not what it may be"),
        ("ratio = 1.31", 'ratio = "much"', "ratio is not what it may be"),
        ("m@onnx", "m@sorcery", "is not a file of tuned settings"),
        ("seed = 1", "sead = 1", "is not a file of tuned settings"),
        ("[settings]", "[settings", "is not a file of tuned settings"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name_with_the_fix(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    file = tmp_path / "m@onnx.toml"
    file.write_text(make_tuned("m@onnx", SETTINGS).to_toml().replace(before, after))

    with pytest.raises(TunedError, match=rf"m@onnx\.toml.*{said}.*servepath tune") as caught:
        tuned.read(file)
    assert "\n" not in str(caught.value)


def test_what_another_program_says_about_a_file_is_in_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "m@onnx.toml"
    with pytest.raises(TunedError) as caught:
        tuned.read(file)
    assert str(caught.value) == f"{file} is not a file of tuned settings; remove it and run: servepath tune"
    assert "FileNotFoundError" in caplog.text


def test_a_service_is_not_started_with_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert tuned.in_use(None) == {}
    with pytest.raises(TunedError, match=r"SERVEPATH_TUNED names .*/typo, which is not there; run: servepath tune,"):
        tuned.in_use(tmp_path / "typo")


def test_settings_for_this_artifact_and_machine_are_taken(tmp_path: Path) -> None:
    manifest = make_export(tmp_path, "m", "onnx")
    made = make_tuned("m@onnx", SETTINGS, artifact_sha256=manifest.sha256)

    tuned.refuse_stale(Path("m@onnx.toml"), made, tmp_path, host_kind(), DEFAULT_LIMITS)


def test_settings_for_another_artifact_or_machine_are_refused_with_the_fix(tmp_path: Path) -> None:
    manifest = make_export(tmp_path, "m", "onnx")
    fix = "run: servepath tune m@onnx, or remove the file"
    with pytest.raises(TunedError) as other_artifact:
        tuned.refuse_stale(Path("m@onnx.toml"), make_tuned("m@onnx", SETTINGS), tmp_path, host_kind(), DEFAULT_LIMITS)
    made = make_tuned("m@onnx", SETTINGS, artifact_sha256=manifest.sha256, host="64 cores, Big")
    with pytest.raises(TunedError) as other_machine:
        tuned.refuse_stale(Path("m@onnx.toml"), made, tmp_path, "2 cores, Small", DEFAULT_LIMITS)

    known = f"(abababababab, current is {manifest.sha256[:12]})"
    assert str(other_artifact.value) == f"m@onnx.toml is for another artifact of m@onnx {known}; {fix}"
    machines = "(64 cores, Big; this one: 2 cores, Small)"
    assert str(other_machine.value) == f"m@onnx.toml is for another machine {machines}; {fix}"


def test_settings_that_were_compared_with_other_limits_are_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    limits = tuned.limits_of(read_deployments(tmp_path / "deployments.toml"), "m@onnx")
    made = make_tuned("m@onnx", SETTINGS, artifact_sha256=make_export(tmp_path, "m", "onnx").sha256)

    with pytest.raises(TunedError) as caught:
        tuned.refuse_stale(Path("m@onnx.toml"), made, tmp_path, host_kind(), limits)

    said = f"m@onnx.toml was compared with other limits ({DEFAULT_LIMITS}; now: {limits})"
    assert str(caught.value) == f"{said}; run: servepath tune m@onnx, or remove the file"


def test_the_gateway_gets_the_limits_and_a_server_the_rest(tmp_path: Path) -> None:
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    listed = read_deployments(tmp_path / "deployments.toml")
    folder = write_tuned(tmp_path / "tuned", "m@onnx", SETTINGS)

    found = tuned.applied(listed, folder).paths

    assert (found["m", "onnx"].max_in_flight, found["m", "onnx"].max_queue) == (16, 7)
    assert {name: limits for name, limits in found.items() if name != ("m", "onnx")} == {
        name: limits for name, limits in listed.paths.items() if name != ("m", "onnx")
    }
    assert tuned.of_artifact(folder, Path("exports/m/onnx/3")) == {"threads": 4}
    assert tuned.of_artifact(folder, Path("exports/n/onnx/3")) == {}
    assert tuned.of_artifact(folder, Path("exports/m/onnx-int8/3")) == {}
    assert tuned.of_artifact(None, Path("exports/m/onnx/3")) == {}
    assert tuned.applied(listed, None) == listed


def test_a_file_whose_best_settings_are_in_another_precision_is_that_paths(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    tuned.file_of(folder, "m@onnx").write_text(make_tuned("m@onnx:int8", {"threads": 4}).to_toml())

    assert tuned.of_artifact(folder, Path("exports/m/onnx-int8/3")) == {"threads": 4}
    assert tuned.of_artifact(folder, Path("exports/m/onnx/3")) == {}


def test_what_a_server_has_once_is_the_largest_of_its_models(tmp_path: Path) -> None:
    folder = write_tuned(tmp_path, "m@tfserving", {"engine_threads": 1})
    write_tuned(folder, "n@tfserving", {"engine_threads": 2})
    write_tuned(folder, "n@onnx", {"engine_threads": 8})

    assert tuned.largest(folder, "tfserving", "engine_threads", 5) == 2
    assert tuned.largest(folder, "torchserve", "engine_threads", 5) == 5
