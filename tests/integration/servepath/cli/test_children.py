"""Servers as children: started, ended, and gone with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from servepath.cli import children
from servepath.cli.free_ports import free_ports
from servepath.cli.locked import Held, locked
from tests.limits import LONG_S

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(0, flush=True); time.sleep(60)"
PARENT = """
import sys, time
from pathlib import Path
from servepath.cli import children
print(children.start(["sleep", "60"], Path(sys.argv[1]), outlives_us=sys.argv[2] == "outlives").pid, flush=True)
time.sleep(60)
"""


def until_said(log: Path) -> None:
    while not log.read_text():
        time.sleep(0.01)


def test_a_server_is_in_a_group_of_its_own_and_says_all_in_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, sys; print(os.getpgid(0)); sys.exit('gone wrong')"]
    with children.running(command, tmp_path / "logs" / "log", grace_s=5) as process:
        assert process.wait(LONG_S) == 1
    assert children.tail(tmp_path / "logs" / "log") in (f"{process.pid} gone wrong", f"gone wrong {process.pid}")


def test_a_program_that_does_not_end_when_told_is_killed(tmp_path: Path) -> None:
    with children.running([sys.executable, "-c", STUBBORN], tmp_path / "log", grace_s=0.1) as process:
        until_said(tmp_path / "log")
    assert process.returncode == -signal.SIGKILL


def test_what_was_started_is_ended_at_ctrl_c(tmp_path: Path) -> None:
    started = []

    def interrupted() -> None:
        with children.running(["sleep", "60"], tmp_path / "log", grace_s=5) as process:
            started.append(process)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@pytest.mark.parametrize("how", ["ends", "outlives"])
def test_a_server_ends_with_the_process_that_started_it_unless_it_shall_outlive_it(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        while child.name() != "sleep":  # until then it would only be on its way to become the program
            time.sleep(0.01)
        parent.kill()
    if how == "ends":
        child.wait(LONG_S)
    else:
        assert child.is_running()
        os.kill(child.pid, signal.SIGKILL)


def test_a_file_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "new" / "lock"
    with locked(file), pytest.raises(Held), locked(file):
        pass
    with locked(file):
        pass


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(20))) == 20
