"""What a command that runs has printed so far."""

import subprocess

import pytest

from tests.limits import LONG_S


def read_until(process: "subprocess.Popen[str]", sign: str) -> str:
    """Return the first line with these words. A command that ends before fails the test, with all that it printed."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if sign in line:
            return line
    pytest.fail(f"ended with exit code {process.wait(LONG_S)} before {sign!r}:\n{''.join(said)}")
