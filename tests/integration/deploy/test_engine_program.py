import os
import subprocess
import sys

from tests.limits import LONG_S


def engine(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    command = [sys.executable, "-m", "deploy.engine", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG_S, check=False)


def test_an_engine_that_was_named_and_does_not_answer_is_an_error_of_one_line() -> None:
    done = engine("run", "true")
    complaint = "engine: DOCKER_HOST=unix:///nowhere/docker.sock does not answer: correct it, or unset it\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", complaint)


def test_run_without_a_command_is_refused() -> None:
    done = engine("run")
    assert (done.returncode, done.stderr) == (2, "python -m deploy.engine: run needs a COMMAND\n")
