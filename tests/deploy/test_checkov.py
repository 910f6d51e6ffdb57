"""checkov's findings in every overlay, each with our answer (checkov.toml)."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.rendering import RENDERED, ROOT, text

ANSWERS = tomllib.loads((Path(__file__).parent / "checkov.toml").read_text())
CHECKOV = Path(sys.executable).with_name("checkov")
TIMEOUT_S = 110


class Finding(NamedTuple):
    """check: checkov's number. what: its words. where: KIND.NAMESPACE.NAME."""

    check: str
    what: str
    where: str


def findings(folder: Path) -> set[Finding]:
    """Return what checkov finds in the manifests of a folder. It asks nobody: no download, no account."""
    command = [str(CHECKOV), "--framework", "kubernetes", "--directory", str(folder)]
    command += ["--quiet", "--compact", "--skip-download", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    said = json.loads(done.stdout)
    assert said["summary"]["parsing_errors"] == 0
    failed = said["results"]["failed_checks"]
    return {Finding(one["check_id"], one["check_name"], one["resource"]) for one in failed}


def unanswered(found: Sequence[Finding], answers: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Yield a line for each finding without an answer."""
    for finding in found:
        where = answers.get(finding.check, {}).get("where", [])
        if not any(fnmatch(finding.where, pattern) for pattern in where):  # type: ignore[attr-defined]
            yield f"{finding.check} {finding.where}: {finding.what}"


def idle(found: Sequence[Finding], answers: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Yield a line for each answer, or part of one, that answers nothing."""
    for check, answer in answers.items():
        for pattern in answer["where"]:  # type: ignore[attr-defined]
            if not any(finding.check == check and fnmatch(finding.where, pattern) for finding in found):
                yield f"{check} answers nothing at {pattern}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    folder = tmp_path_factory.mktemp("rendered")
    for name in RENDERED:
        (folder / f"{Path(name).name}.yaml").write_text(text(ROOT / "deploy" / "k8s" / name))
    return sorted(findings(folder))


@pytest.mark.timeout(120)
def test_every_finding_is_answered(found: list[Finding], say: list[str]) -> None:
    assert list(unanswered(found, ANSWERS)) == []
    for check in sorted({finding.check for finding in found}):
        what = next(finding.what for finding in found if finding.check == check)
        count = sum(finding.check == check for finding in found)
        say.append(f"checkov {check} ({what}): {count} findings, answered: {ANSWERS[check]['why']}")


def test_every_answer_answers_something(found: list[Finding]) -> None:
    assert list(idle(found, ANSWERS)) == []


def test_a_finding_without_an_answer_and_an_answer_without_a_finding_are_said() -> None:
    finding = Finding("CKV_1", "it is open", "Deployment.a.b")
    assert list(unanswered([finding], {})) == ["CKV_1 Deployment.a.b: it is open"]
    assert list(unanswered([finding], {"CKV_1": {"where": ["Job.*"]}})) == ["CKV_1 Deployment.a.b: it is open"]
    assert list(idle([], {"CKV_1": {"where": ["*"]}})) == ["CKV_1 answers nothing at *"]


def test_checkov_finds_something_in_a_pod_that_keeps_no_rule(tmp_path: Path) -> None:
    pod = (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}"
    )
    (tmp_path / "pod.yaml").write_text(pod)
    assert "CKV_K8S_19" in {finding.check for finding in findings(tmp_path)}
