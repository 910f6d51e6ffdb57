"""What is killed is the container's process, or nothing."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.compose import Project
from deploy.e2e.fault_injection import _kill
from deploy.engine import Engine, EngineError
from tests.limits import LONG_S

# A docker program of an engine that has one container, whose first process is `{program}`.
DOCKER = """\
#!/bin/sh
case "$*" in
*"compose version") ;;
*"ps --all --quiet gateway") echo 0123abc ;;
"exec 0123abc cat /proc/1/cmdline") printf '{program}\\0' ;;
*) echo "no such thing: $*" >&2; exit 1 ;;
esac
"""


def project(folder: Path, program: str) -> Project:
    docker = folder / "docker"
    docker.write_text(DOCKER.format(program=program))
    docker.chmod(0o755)
    return Project(Engine(str(docker), "unix:///here", "20.10.24", own=False), "p", ["docker-compose.yml"], {})


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(b"it has begun\n")
        running.stdout.readline()
        yield running
        running.kill()


def test_a_container_of_this_machine_is_killed(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    _kill(project(tmp_path, "cat"), "gateway", process.pid)
    assert process.wait(LONG_S) == -signal.SIGKILL


def test_a_process_that_has_another_containers_number_lives(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(EngineError, match="gateway runs on another machine"):
        _kill(project(tmp_path, "python"), "gateway", process.pid)
    assert process.poll() is None
