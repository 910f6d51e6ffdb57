"""A load test of servers elsewhere, told by --targets, here a server that .env says nothing of."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from report.__main__ import main
from tests.limits import LONG_S

ROOT = Path(__file__).parents[3]
QUICK = ["--duration=0.1", "--warmup=0.2", "--rate=200", "--min-requests=1000", "--seed=7", "--rounds=1"]
PLACE = ["cpu_model", "cpu_quota", "threads"]


def loadtest(stand: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK, *words]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_ADDR")}
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG_S
    )


def elsewhere(stand: Any, *words: str) -> Path:
    (stand.folder / "env").write_text("")  # no address but those of --targets
    done = loadtest(stand, f"--targets=gateway={stand.address}", "--environment=two machines", *words)
    assert (done.returncode, done.stderr) == (0, "")
    folder: Path = (stand.folder / "results/latest").resolve()
    return folder


@pytest.mark.slow
def test_the_run_names_its_environment_and_no_host_and_knows_nothing_of_the_servers(stand: Any) -> None:
    text = (elsewhere(stand) / "run.json").read_text()
    facts = json.loads(text)
    assert facts["fairness"]["run"]["environment"] == {"class": "subject", "value": "two machines"}
    assert facts["arguments"]["targets"] == "gateway=HOST:PORT"
    assert stand.address not in text
    assert list(facts["fairness"]["paths"]) == ["line@onnx.gateway"]  # direct is out of reach
    assert {facts["fairness"]["paths"]["line@onnx.gateway"][key]["value"] for key in PLACE} == {"unknown"}


@pytest.mark.slow
def test_every_form_of_the_report_shows_the_environment(stand: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = elsewhere(stand)
    assert main([str(folder)]) in {0, 3}  # 3: a busy machine
    for text in (capsys.readouterr().out, *((folder / name).read_text() for name in ("summary.md", "report.html"))):
        assert "two machines" in text
    assert "--targets gateway=HOST:PORT --environment 'two machines'" in (folder / "report.html").read_text().replace(
        "&#39;", "'"
    )


@pytest.mark.slow
def test_paths_that_are_left_out_are_said(stand: Any) -> None:
    (stand.folder / "deployments.toml").write_text(
        "[models.line]\ndefault = 'onnx'\n[models.line.stacks.onnx]\n[models.line.stacks.torchserve]\n"
    )
    done = loadtest(stand, f"--targets=onnx={stand.address}", "--environment=two machines")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("left out, since --targets has no address for them: line@torchserve\n")
