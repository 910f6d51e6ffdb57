import os
import sys
from pathlib import Path

import pytest

from studies.peers.processes import ServerFailed, Servers

CORE = str(min(os.sched_getaffinity(0)))


def test_a_server_that_ends_by_itself_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        process = servers.start("a server", [sys.executable, "-c", "raise SystemExit('no such port')"], CORE)
        with pytest.raises(ServerFailed, match=r"a server is not ready \(silent\); its log ends: no such port"):
            servers.wait("a server", process, lambda: "silent")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        process = servers.start("gone", ["/no/such/program"], CORE)
        with pytest.raises(ServerFailed, match=r"gone is not ready .* failed to execute /no/such/program"):
            servers.wait("gone", process, lambda: "silent")


def test_what_was_started_is_stopped_when_the_run_is_interrupted(tmp_path: Path) -> None:
    started = []

    def interrupted() -> None:
        with Servers(tmp_path) as servers:
            started.extend(servers.start("a server", ["sleep", "60"], CORE) for _ in range(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [process.poll() for process in started] == [-15, -15]


def test_a_server_runs_on_its_cores_alone(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        process = servers.start("a server", ["sleep", "60"], CORE)
        servers.wait("a server", process, lambda: "" if b"sleep" in _command(process.pid) else "not there yet")
        assert os.sched_getaffinity(process.pid) == {int(CORE)}


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
