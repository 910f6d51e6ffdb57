import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from servepath.runner.processes import MARK, ServiceFiles
from tests.limits import LONG_S


def test_logs_end_quietly_when_their_reader_has_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "servepath.runner", "logs", "--run-dir", str(tmp_path)]
    with os.fdopen(writer, "w") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["up", "down"])
def test_a_run_dir_that_cannot_be_made_is_named_in_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    words = [sys.executable, "-m", "servepath.runner", command, "--run-dir", str(tmp_path / "file/run")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = f"servepath {command}: [Errno 20] Not a directory: '{tmp_path / 'file/run'}'\n"
    assert (done.returncode, done.stderr) == (1, said)


def with_broken_deployments(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "deployments.toml").write_text("[models\n")
    words = ["--run-dir", str(folder / "run"), "--deployments", str(folder / "deployments.toml")]
    return subprocess.run(
        [sys.executable, "-m", "servepath.runner", command, *words],
        env={**os.environ, "GATEWAY_PORT": "1", "GATEWAY_ADDR": "127.0.0.1:1"},  # nobody answers there
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


def test_logs_are_shown_although_deployments_toml_is_broken(tmp_path: Path) -> None:
    files = ServiceFiles(tmp_path.resolve() / "run", "onnx_svc")
    files.run_dir.mkdir()
    files.log_file.write_text("the last line\n")

    done = with_broken_deployments("logs", tmp_path)

    assert (done.returncode, done.stdout) == (0, f"==> {files.log_file} <==\nthe last line\n")
    assert "deployments.toml is not TOML" in done.stderr


def test_status_has_what_runs_although_deployments_toml_is_broken(tmp_path: Path) -> None:
    files = ServiceFiles(tmp_path.resolve() / "run", "onnx_svc")
    files.run_dir.mkdir()
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleep, env={**os.environ, MARK: files.mark}) as process:
        files.pid_file.write_text(f"{process.pid}\n")
        try:
            done = with_broken_deployments("status", tmp_path)
        finally:
            process.kill()

    assert done.returncode == 1
    assert re.findall(r"^\S (\w+_svc|gateway)\b", done.stdout, re.MULTILINE) == ["onnx_svc"]
    assert str(process.pid) in done.stdout
    assert "deployments.toml is not TOML" in done.stderr
