import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


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
