"""Tuning with the real servers: what is written, applied and named, not which settings are better."""

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from servepath.artifacts.commit import COMMIT_FILE
from servepath.artifacts.manifest import artifact_folder, current_version, read_manifest
from servepath.protocols import tuned
from servepath.protocols.deployments_file import read_deployments
from tests.e2e.workplace import Workplace
from tests.said import read_until
from tests.tuned import write_tuned

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# An objective that is met on a busy machine, too.
TUNE = ("loadtest.tune", "simple_nn@onnx", "--seed=1", "--slo-p99-ms=5000")
FILE = Path("results/tuned/simple_nn@onnx.toml")


def sha256(place: Workplace, model: str, artifact_format: str) -> str:
    exports = place.folder / "artifacts/exports"
    return read_manifest(artifact_folder(exports, model, artifact_format, current_version(exports, model))).sha256


def limits(place: Workplace, path: str) -> str:
    return tuned.limits_of(read_deployments(place.folder / "deployments.toml"), path)


def trials(place: Workplace) -> list[Any]:
    found: list[Any] = json.loads((place.folder / FILE.with_suffix(".trials.json")).read_text())["trials"]
    return found


def tune_until_the_first_trial(place: Workplace, *words: str) -> None:
    # As an image says it: trials count for code that a commit names.
    (place.folder / COMMIT_FILE).write_text("ab" * 20)
    with place.start(*TUNE, "--budget=1h", *words) as process:
        assert process.stdout is not None
        said = read_until(process, " left")
        assert "times the default in" in said or "out, " in said
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "interrupted; the same command goes on from here" in rest
    assert place.left() == []


def test_a_path_is_tuned_stopped_and_gone_on_with(here: Workplace) -> None:
    tune_until_the_first_trial(here)
    first = trials(here)
    assert tuned.read(here.folder / FILE).trials == len({str(trial["candidate"]) for trial in first})

    code, text = here.run(*TUNE, "--budget=1s")

    assert code == 0, text
    assert f"going on from {len(first)} trials" in text
    assert trials(here)[: len(first)] == first
    assert here.left() == []


@pytest.mark.parametrize("goal", ["latency", "cpu"])
def test_other_goals_are_measured_at_a_rate(here: Workplace, goal: str) -> None:
    tune_until_the_first_trial(here, f"--goal={goal}", "--rate=100")

    assert tuned.read(here.folder / FILE).goal == goal
    assert all(trial["rounds"] or trial["out"] for trial in trials(here))


def test_requests_without_known_answers_are_held_to_what_the_default_answers(here: Workplace) -> None:
    file = here.folder / "mine.jsonl"
    file.write_text('{"x": [[1, 2]]}\n{"x": [[3, 4]]}\n')

    tune_until_the_first_trial(here, f"--payloads={file}")

    context = json.loads((here.folder / FILE.with_suffix(".trials.json")).read_text())["context"]
    assert context["payloads"]["models"]["simple_nn"]["expected"].startswith("answers of simple_nn@onnx.gateway")
    assert tuned.read(here.folder / FILE).requests == "mine.jsonl, 4 connections"


def test_requests_that_cannot_be_read_are_told_before_services_start(here: Workplace) -> None:
    exports = here.folder / "artifacts/exports"
    # Services would not start, and that would be told instead.
    (artifact_folder(exports, "simple_nn", "onnx", current_version(exports, "simple_nn")) / "model.onnx").unlink()

    code, text = here.run(*TUNE, "--payloads=none.jsonl")

    assert (code, "simple_nn@onnx: --payloads: none.jsonl cannot be read" in text) == (1, True), text
    assert here.left() == []


def test_up_starts_the_servers_with_tuned_settings_and_a_load_test_names_them(here: Workplace) -> None:
    kept = {
        "artifact_sha256": sha256(here, "simple_nn", "mar"),
        "default_limits": limits(here, "simple_nn@torchserve"),
    }
    folder = write_tuned(
        here.folder / "results/tuned",
        "simple_nn@torchserve",
        {"workers": 2, "max_in_flight": 9},
        **kept,
    )
    services = ("torch_svc", "onnx_svc", "gateway")

    code, text = here.run("servepath.runner", "up", "--tuned", *services)

    assert code == 0, text
    assert "tuned simple_nn@torchserve: workers 2, max_in_flight 9 (1.31 times the default's rate" in text
    supervisor = here.process("torch_svc")
    assert supervisor is not None
    assert len([each for each in supervisor.children(recursive=True) if is_worker(each)]) == 2
    # What runs already with these settings is left alone, with others it is refused.
    here.run_until_0("servepath.runner", "up", "--tuned", *services)
    write_tuned(folder, "simple_nn@torchserve", {"workers": 1}, **kept)
    code, text = here.run("servepath.runner", "up", "--tuned", *services)
    assert (code, "torch_svc, gateway already run with other settings; run: make down" in text) == (1, True), text

    paths = "--paths=simple_nn@torchserve,simple_nn@onnx"
    code, text = here.run("loadtest", paths, "--via=gateway", "--rounds=1", "--rate=50", "--min-requests=5")

    assert code == 0, text
    manifest = json.loads((here.folder / "results/latest/run.json").read_text())["fairness"]["paths"]
    found = {name: keys["settings"]["value"] for name, keys in manifest.items()}
    settings = "torchserve: workers 2; gateway: max_in_flight 9"
    assert found == {
        "simple_nn@torchserve.gateway": f"tuned 2026-11-29 for rate, for another engine; {settings}",
        "simple_nn@onnx.gateway": "default",
    }
    assert "max_in_flight 9," in manifest["simple_nn@torchserve.gateway"]["batching"]["value"]


def is_worker(process: psutil.Process) -> bool:
    return any(word.endswith("model_service_worker.py") for word in process.cmdline())


def test_settings_of_another_artifact_are_not_started_with(here: Workplace) -> None:
    write_tuned(here.folder / "results/tuned", "simple_nn@onnx", {"threads": 4})

    code, text = here.run("servepath.runner", "up", "--tuned", "onnx_svc", "gateway")

    assert code == 1
    assert "is for another artifact of simple_nn@onnx" in text
    assert here.left() == []
