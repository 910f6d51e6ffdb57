"""`python -m demo` for real: red when one answer in fifty is wrong, and gone after Ctrl-C in any stage."""

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.config import SERVICES
from tests.e2e import workplace
from tests.e2e.workplace import ROOT, Workplace


@pytest.fixture
def here(tmp_path: Path, ready_made: Path) -> Iterator[Workplace]:
    place = workplace.make(tmp_path)
    shutil.copytree(ready_made, tmp_path / "artifacts")
    yield place
    place.run("services.local", "down")


def test_a_backend_that_sometimes_answers_wrongly_turns_the_demo_red(here: Workplace) -> None:
    liar = here.folder / "liar"
    liar.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {ROOT}/tests/e2e/lying_onnx_svc.py "$@"\n')
    liar.chmod(0o755)
    code, text = here.run("demo", "--rate", "1000", "--duration", "1", ONNX_SVC_PYTHON=str(liar))

    assert code == 1, text
    assert text.splitlines()[-1].startswith("demo failed: report ended with exit code 1")
    rows = json.loads((here.folder / "results" / "latest" / "summary.json").read_text())["paths"]
    wrong = {f"{row['model']}@{row['stack']}" for row in rows if row["wrong_answers"]}
    assert wrong == {f"{row['model']}@onnx" for row in rows if row["stack"] == "onnx"} != set()
    assert here.left() == []


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("train", "Epoch 1,"),
        ("export", "export  python -m export"),
        ("start", "listening"),
        ("load test", " blocks, closed loop"),
        ("report", "report  python -m report"),
    ],
)
def test_ctrl_c_in_any_stage_ends_it_with_130_and_leaves_nothing(here: Workplace, stage: str, sign: str) -> None:
    with here.start("demo", "--rate", "1000", "--duration", "1") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if sign in line)
        process.send_signal(signal.SIGINT)
        text = process.stdout.read()
        code = process.wait(60)

    assert (stage, code) == (stage, 130), text
    assert text.splitlines()[-1] == "demo interrupted; what it started is stopped"
    assert "Traceback" not in text, text
    assert here.left() == []


def test_ctrl_c_while_it_predicts_and_again_while_it_stops_leaves_nothing_either(here: Workplace) -> None:
    with here.start("demo") as process:
        assert process.stdout is not None
        for sign in ("predict  python -m client", "stop  python -m services.local down"):
            next(line for line in process.stdout if sign in line)
            process.send_signal(signal.SIGINT)
        text = process.stdout.read()
        code = process.wait(60)

    assert code == 130, text
    assert text.splitlines()[-1] == "demo interrupted; what it started is stopped"
    assert here.left() == []


def test_the_demo_leaves_a_service_alone_that_ran_before(here: Workplace) -> None:
    code, text = here.run("services.local", "up")
    assert code == 0, text
    before = {name: here.process(name) for name in SERVICES}
    with here.start("demo") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("predict: "))
        process.send_signal(signal.SIGINT)
        process.stdout.read()

    assert process.returncode == 130
    assert {name: here.process(name) for name in SERVICES} == before
