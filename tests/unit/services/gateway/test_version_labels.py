"""Which version a call goes to, by its label or by weights, and what is said where it cannot be answered."""

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.errors import BackendUnavailable, ModelLoading, ModelNotFound, ServeError
from servepath.protocols.stacks import STACKS, Stack, external_stack
from servepath.protocols.types import Request
from services.dataplane.backend import Call
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.router import ModelRouter, VersionCheck, VersionSplit, share_of
from services.gateway.version_labels import VersionLabels, check_exported
from tests.binomial import bounds
from tests.exports import make_export
from tests.serving_fakes import ANSWER, Keeping

CALLS = 20_000
LABELS = VersionLabels({"m": {"stable": 3, "canary": 4}})


def call(version: int = 0, label: str = "", key: str = "") -> Call:
    made = Call(Request("m", version, (), version_label=label), 0.0)
    made.key = key
    return made


@pytest.mark.parametrize(("label", "version"), [("stable", 3), ("canary", 4), ("", 0)])
def test_a_label_is_the_version_and_a_name_the_path_that_it_stands_for(label: str, version: int) -> None:
    model = Keeping()
    router = ModelRouter({"m": model})
    router.use({"m": model}, {"m": "m@onnx"}, LABELS)
    router.submit(call(label=label))
    (kept,) = model.calls
    assert (kept.request.version, kept.request.version_label, kept.name) == (version, "", "m@onnx")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS, "m has no version label 'old'; it has canary, stable"),
        (VersionLabels({}), "m has no version label 'old'; it has none"),
    ],
)
def test_an_unknown_label_is_refused_with_those_that_there_are(labels: VersionLabels, said: str) -> None:
    router, asked = ModelRouter({}), call(label="old")
    router.use({"m": Keeping()}, {}, labels)
    router.submit(asked)
    assert isinstance(asked.outcome, ModelNotFound)
    assert asked.outcome.text == said


def split(keys: list[str], version: int = 0) -> list[int]:
    model = Keeping()
    policy = VersionSplit(model, [(3, 90.0), (4, 10.0)], random.Random(0).random)  # noqa: S311 - calls, not secrets
    for key in keys:
        policy.submit(call(version, key=key))
    return [each.request.version for each in model.calls]


def test_calls_without_a_version_are_split_within_the_bounds_of_chance() -> None:
    low, high = bounds(CALLS, 0.1)
    assert low <= Counter(split([""] * CALLS))[4] <= high


def test_the_calls_of_one_key_are_asked_of_one_version_on_whichever_path_they_are() -> None:
    keys = [f"account-{number}" for number in range(CALLS)]
    versions = split(keys)
    assert versions == split(keys)
    on_one_path = [version for key, version in zip(keys, versions, strict=True) if share_of(key) < 0.5]
    low, high = bounds(len(on_one_path), 0.1)
    assert low <= Counter(on_one_path)[4] <= high


def test_a_version_that_is_asked_for_is_no_business_of_the_weights() -> None:
    assert split(["", "key"], version=7) == [7, 7]


def checked(tmp_path: Path, stack: Stack, outcome: ServeError, version: int) -> Call:
    make_export(tmp_path, "m", "onnx", 1)
    model, asked = Keeping(), call(version)
    found = ExternalArtifacts(tmp_path, "m") if stack.external else Artifacts(tmp_path, "m", "onnx")
    VersionCheck(model, found, stack).submit(asked)
    for each in model.calls:
        each.end(outcome)
    return asked


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("tfserving", "it serves one version at a time, the newest one; a stack that serves several: onnx, litert"),
        ("torchserve", "it serves one version at a time, the one that was current when it started; a stack that"),
        ("onnx", "it loads all that are exported when it starts"),
    ],
)
def test_a_version_that_a_server_has_not_loaded_names_stack_and_fix(tmp_path: Path, stack: str, said: str) -> None:
    asked = checked(tmp_path, STACKS[stack], ModelLoading("it has not"), 1)
    assert isinstance(asked.outcome, ModelLoading)
    assert asked.outcome.text.startswith(f"{stack} has not loaded version 1: {said}")


@pytest.mark.parametrize("pause_ms", [30_000, -1])
def test_what_a_server_says_of_another_try_stays_with_a_version_that_it_has_not_loaded(
    tmp_path: Path, pause_ms: int
) -> None:
    error = ModelLoading("it has not")
    error.pushback_ms, error.retry_after_ms = pause_ms, max(pause_ms, 0) or None
    outcome = checked(tmp_path, STACKS["onnx"], error, 1).outcome
    assert isinstance(outcome, ModelLoading)
    assert (outcome.pushback_ms, outcome.retry_after_ms) == (pause_ms, error.retry_after_ms)


@pytest.mark.parametrize(("outcome", "version"), [(BackendUnavailable("down"), 1), (ModelLoading("not yet"), 0)])
def test_what_is_no_matter_of_versions_stays_as_it_is(tmp_path: Path, outcome: ServeError, version: int) -> None:
    assert checked(tmp_path, STACKS["onnx"], outcome, version).outcome is outcome


def test_an_answered_version_is_answered(tmp_path: Path) -> None:
    outcome: Any = ANSWER
    assert checked(tmp_path, STACKS["onnx"], outcome, 1).outcome is ANSWER


def test_an_external_servers_versions_are_its_own(tmp_path: Path) -> None:
    asked = checked(tmp_path, external_stack("theirs"), ModelLoading("unused"), 1)
    assert isinstance(asked.outcome, ModelNotFound)
    assert asked.outcome.text == "m has no version 1: theirs is an external server, whose versions are its own"


FILE = """
[models.m]
default = "onnx"
[models.m.version_labels]
stable = 1
canary = 2
[models.m.stacks.onnx]
[models.m.stacks.litert]
"""
WEIGHTS = "[models.m.version_weights]\nstable = 90\ncanary = 10\n"


def exported(tmp_path: Path, text: str, **versions: int) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(text)
    (model,) = read_deployments(file).models
    for artifact_format, newest in versions.items():
        for version in range(newest, 0, -1):  # so that all have the current one
            make_export(tmp_path, "m", artifact_format, version)
    formats = {"onnx": "onnx", "litert": "tflite"}
    paths = {stack: Artifacts(tmp_path, "m", formats[stack]) for stack in model.stacks}
    check_exported(model, paths, file)


def test_a_label_may_be_of_a_version_that_one_of_the_stacks_has(tmp_path: Path) -> None:
    exported(tmp_path, FILE, onnx=2, tflite=1)
    with pytest.raises(DeploymentsError) as caught:
        exported(tmp_path, FILE.replace("canary = 2", "canary = 9"))
    assert "[models.m.version_labels] canary is version 9, which is not exported for litert, onnx;" in str(caught.value)


def test_calls_are_split_between_versions_that_every_stack_they_come_to_has(tmp_path: Path) -> None:
    exported(tmp_path, FILE + WEIGHTS, onnx=2, tflite=1)  # calls for m alone come to onnx
    with pytest.raises(DeploymentsError, match="canary is version 2, which is not exported for litert;"):
        exported(tmp_path, FILE.replace('"onnx"', '"onnx"\nfallback = ["litert"]') + WEIGHTS)


def test_a_label_of_a_version_that_is_gone_since_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(FILE.replace("[models.m.stacks.litert]\n", ""))
    (model,) = read_deployments(file).models
    for version in (2, 1):
        make_export(tmp_path, "m", "onnx", version)
    paths = {"onnx": Artifacts(tmp_path, "m", "onnx")}
    check_exported(model, paths, file)
    shutil.rmtree(tmp_path / "m" / "onnx" / "2")
    with pytest.raises(DeploymentsError, match="canary is version 2, which is not exported for onnx;"):
        check_exported(model, paths, file)
