"""Small real processes under the runner's hand."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from servepath.runner import processes
from servepath.runner.config import Service
from servepath.runner.processes import RunError, ServiceFiles, lock, main_process, members, stop
from tests.limits import LONG_S

WAIT_S = LONG_S
SLEEP = "import time; time.sleep(60)"
IGNORE_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); {SLEEP}"
# A worker in another session, as a daemon would be, that outlives its parent.
WITH_WORKER = (
    "import subprocess, sys; "
    f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True); print('on', flush=True); {SLEEP}"
)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ServiceFiles]:
    files = ServiceFiles(tmp_path / "run", "onnx_svc")
    yield files
    stop([files], 0)
    assert members(files) == []


def start(files: ServiceFiles, code: str) -> psutil.Process:
    command = (sys.executable, "-c", code)
    service = Service(files.name, command, "127.0.0.1:1", (1,), {**os.environ})
    process = processes.start(service, files)
    started = psutil.Process(process.pid)
    # A process that has just begun shows no environment for a moment.
    wait_for(lambda: main_process(files) is not None or process.poll() is not None)
    process.returncode = 0  # nobody waits for it here; its mark is what finds it
    return started


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_started_service_has_a_pid_file_a_log_and_a_session_of_its_own(files: ServiceFiles) -> None:
    process = start(files, "print('hello', flush=True); " + SLEEP)
    wait_for(lambda: files.tail(5) == ["hello"])
    assert files.tail(0) == []

    assert files.pid_file.read_text() == f"{process.pid}\n"
    assert main_process(files) == process
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_the_log_begins_again_and_the_last_one_is_kept(files: ServiceFiles) -> None:
    for text in ("first", "second"):
        start(files, f"print({text!r})")
        wait_for(lambda text=text: files.tail(5) == [text])

    assert files.log_file.with_suffix(".log.1").read_text() == "first\n"


def test_stop_ends_a_service_and_says_so(files: ServiceFiles) -> None:
    start(files, SLEEP)
    done = stop([files], WAIT_S)

    assert done["onnx_svc"].startswith("stopped after")
    assert (main_process(files), files.pid_file.exists()) == (None, False)


def test_stopping_what_does_not_run_does_nothing(files: ServiceFiles) -> None:
    assert stop([files], WAIT_S) == {}


def test_a_service_that_does_not_listen_to_sigterm_is_killed(files: ServiceFiles) -> None:
    start(files, IGNORE_SIGTERM)
    wait_for(lambda: files.tail(1) == ["on"])

    assert stop([files], 0.2)["onnx_svc"].startswith("did not stop within 0.2 s, killed")
    assert members(files) == []


def test_a_worker_in_another_session_is_found_and_ended_too(files: ServiceFiles) -> None:
    start(files, WITH_WORKER)
    wait_for(lambda: files.tail(1) == ["on"])
    wait_for(lambda: len(members(files)) == 2)  # a process that has just begun shows no environment for a moment

    stop([files], 0.2)
    assert members(files) == []


def test_a_worker_that_outlived_its_killed_parent_is_found_by_its_mark(files: ServiceFiles) -> None:
    parent = start(files, WITH_WORKER)
    wait_for(lambda: files.tail(1) == ["on"])
    wait_for(lambda: len(members(files)) == 2)  # as above
    parent.kill()
    wait_for(lambda: main_process(files) is None)
    assert len(members(files)) == 1

    assert stop([files], WAIT_S)["onnx_svc"].startswith("stopped")
    assert members(files) == []


def test_a_stranger_who_has_the_pid_of_a_stale_file_is_left_alone(files: ServiceFiles) -> None:
    stranger = start(ServiceFiles(files.run_dir, "gateway"), SLEEP)
    files.pid_file.write_text(f"{stranger.pid}\n")
    try:
        assert main_process(files) is None
        assert stop([files], 1) == {}
        assert stranger.is_running()
        assert stranger.status() != psutil.STATUS_ZOMBIE
    finally:
        stop([ServiceFiles(files.run_dir, "gateway")], 0)


def test_the_same_service_of_another_run_dir_is_left_alone(files: ServiceFiles, tmp_path: Path) -> None:
    other = ServiceFiles(tmp_path / "other", "onnx_svc")
    process = start(other, SLEEP)
    files.run_dir.mkdir()
    files.pid_file.write_text(f"{process.pid}\n")
    try:
        assert stop([files], 1) == {}
        assert main_process(other) == process
    finally:
        stop([other], 0)


@pytest.mark.parametrize("text", ["", "no number", "999999999"])
def test_a_pid_file_of_nobody_is_nobody(files: ServiceFiles, text: str) -> None:
    files.run_dir.mkdir()
    files.pid_file.write_text(text)

    assert main_process(files) is None


def test_a_program_that_is_not_there_is_named(files: ServiceFiles) -> None:
    service = Service("onnx_svc", ("/no/such/python",), "127.0.0.1:1", (1,), {})

    with pytest.raises(RunError, match="onnx_svc: cannot run /no/such/python: No such file or directory"):
        processes.start(service, files)


def test_two_runners_do_not_work_in_one_run_dir(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(RunError, match="another up or down is running"), lock(tmp_path):
        pytest.fail("both hold the lock")
    with contextlib.ExitStack() as again:
        again.enter_context(lock(tmp_path))


def test_killing_by_signal_leaves_no_zombie_that_counts(files: ServiceFiles) -> None:
    process = start(files, SLEEP)
    os.kill(process.pid, signal.SIGKILL)

    wait_for(lambda: main_process(files) is None)
    assert members(files) == []
