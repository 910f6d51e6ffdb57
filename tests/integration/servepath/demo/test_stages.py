"""Stages as real processes; small programs stand in for the pipeline's."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from servepath.demo.stages import Stage, StageFailed, output, run
from tests.limits import LONG_S

WAIT_S = LONG_S


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose modules a stage can name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def interrupt_when() -> Iterator[object]:
    """Yield a function that sends this process SIGINT as soon as a file is there."""
    threads: list[threading.Thread] = []

    def watch(file: Path) -> None:
        deadline = time.monotonic() + WAIT_S
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def start(file: Path) -> None:
        threads.append(threading.Thread(target=watch, args=[file]))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_a_stage_has_a_headline_and_its_duration(programs: Path) -> None:
    (programs / "fine.py").write_text("")
    shown = console()
    run(Stage("train", ["fine", "--now"]), shown)
    headline, duration = shown.file.getvalue().splitlines()

    assert headline.startswith("train  python -m fine --now ─")
    assert re.fullmatch(r"train: \d+\.\d s", duration)


def test_a_failing_stage_is_named_with_its_exit_code(programs: Path) -> None:
    (programs / "bad.py").write_text("raise SystemExit(3)")

    with pytest.raises(StageFailed, match=r"export ended with exit code 3 after \d+\.\d s"):
        run(Stage("export", ["bad"]), console())


def test_an_exit_code_that_passes_lets_the_demo_go_on(programs: Path) -> None:
    (programs / "busy.py").write_text("raise SystemExit(3)")
    shown = console()
    run(Stage("report", ["busy"], passing=(0, 3)), shown)

    assert shown.file.getvalue().splitlines()[-1].startswith("report: ")
    with pytest.raises(StageFailed, match="report ended with exit code 3"):
        run(Stage("report", ["busy"], passing=(0, 1)), shown)


def test_a_stages_output_can_be_asked_for(programs: Path) -> None:
    (programs / "say.py").write_text("print('{}')")

    assert output(Stage("list paths", ["say"])) == "{}\n"


def test_ctrl_c_reaches_the_stage_once_and_is_waited_for(programs: Path, interrupt_when: object) -> None:
    (programs / "careful.py").write_text(
        "import pathlib, time\n"
        "try:\n"
        f"    pathlib.Path({str(programs)!r}, 'started').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.5)\n"
        f"    pathlib.Path({str(programs)!r}, 'cleaned').touch()\n"
    )
    interrupt_when(programs / "started")

    with pytest.raises(KeyboardInterrupt):
        run(Stage("load test", ["careful"]), console())
    assert (programs / "cleaned").exists()


def test_what_a_killed_stage_leaves_in_its_group_is_ended(programs: Path) -> None:
    (programs / "leaver.py").write_text(
        "import os, pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(programs)!r}, 'child').write_text(str(child.pid))\n"
        "os.kill(os.getpid(), 9)\n"
    )

    with pytest.raises(StageFailed, match="exit code -9"):
        run(Stage("train", ["leaver"]), console())
    assert is_gone(int((programs / "child").read_text()))


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_bad_options_get_one_line_and_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "servepath.demo", "--rate", "0"],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "servepath demo: argument --rate: '0' is not a number above 0\n"
