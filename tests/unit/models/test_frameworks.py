import subprocess
import sys

FAILING_IMPORT = """
import os
from models import frameworks
with frameworks._stderr_only_on_failure():
    os.write(2, b"libcuda is broken\\n")
    raise ImportError("no")
"""


def test_importing_tensorflow_prints_nothing() -> None:
    command = [sys.executable, "-c", "from models import frameworks; frameworks.tensorflow(); import keras"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_an_import_said_is_shown_when_it_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING_IMPORT], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("libcuda is broken\n")
    assert "ImportError: no" in done.stderr
