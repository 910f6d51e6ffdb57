"""The package as pip builds it from a clone without generated code, used where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.limits import LONG_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SOURCES = ("servepath", "proto", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what a wheel of a fresh clone installs. What builds it is this environment's: no network."""
    clone, wheels, target = (tmp_path_factory.mktemp(name) for name in ("clone", "wheels", "target"))
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, clone / name)
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(clone)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("servepath-*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def run(installed: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GATEWAY_"))}
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=installed.parent,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


def test_the_client_is_there_with_its_messages_and_nothing_that_could_collide(installed: Path) -> None:
    folders = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}

    assert folders == {"servepath", "servepath_pb"}
    code = "import servepath; from servepath.client import Client; Client('h:1').close(); print(servepath.__file__)"
    done = run(installed, "-c", code)
    assert (done.stdout, done.stderr) == (f"{installed / 'servepath/__init__.py'}\n", "")


def test_a_call_that_nobody_answers_ends_as_in_a_checkout(installed: Path) -> None:
    done = run(installed, "-m", "servepath", "paths", "--addr", "127.0.0.1:1", "--timeout", "1")

    assert done.returncode == 1
    assert done.stderr.startswith("servepath paths: ")


def test_a_command_that_needs_the_checkout_says_so_in_one_line(installed: Path) -> None:
    done = run(installed, "-m", "servepath", "loadtest", "--rate", "9")

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "servepath loadtest: works only in a clone of the repository; in one, run: make setup, "
        "then .venv/bin/servepath loadtest\n"
    )
