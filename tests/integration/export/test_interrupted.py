"""An export that is stopped by force: killed between its steps, out of disk, or by Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export import stage, trained
from servepath.artifacts.manifest import current_version, verify
from tests.limits import LONG_S
from tests.planted import plant_weights

pytestmark = pytest.mark.slow

# `python -m export` that dies by SIGKILL just before the rename whose target's path ends with argv[1].
KILLED = """
import os, runpy, signal, sys
end = sys.argv.pop(1)
def kill(event, args):
    if event == "os.rename" and str(args[1]).endswith(end):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
runpy.run_module("export", run_name="__main__", alter_sys=True)
"""


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, *words, "--models", str(root / "models"), "--out", str(root / "exports")]


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *words), capture_output=True, text=True, timeout=LONG_S, check=False)


def export(root: Path, name: str) -> None:
    stage.export_model(trained.read(root / "models", name), root / "exports")


def names(root: Path, name: str = "simple_nn") -> list[str]:
    """Return what lies at a final name, and current."""
    folder = root / "exports" / name
    return sorted(path.relative_to(folder).as_posix() for path in (*folder.glob("*/[0-9]*"), *folder.glob("current")))


def test_an_export_killed_at_any_rename_leaves_the_old_version_current_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    plant_weights(tmp_path / "models", "simple_nn", bias=0.5)
    export(tmp_path, "simple_nn")
    plant_weights(tmp_path / "models", "simple_nn", bias=1.5)
    seen = []
    for end in ("mar/2", "onnx/2", "stablehlo/2", "reference/2", "simple_nn/current"):
        assert run(tmp_path, "-c", KILLED, end, "simple_nn").returncode == -signal.SIGKILL
        assert current_version(tmp_path / "exports", "simple_nn") == 1
        seen.append([name for name in names(tmp_path) if name.endswith("/2")])
    assert seen == [
        [],
        ["mar/2"],
        ["mar/2", "onnx/2"],
        ["mar/2", "onnx/2", "stablehlo/2"],
        ["mar/2", "onnx/2", "reference/2", "stablehlo/2"],
    ]

    done = run(tmp_path, "-m", "export", "simple_nn")
    assert (done.returncode, done.stderr) == (0, "")
    assert current_version(tmp_path / "exports", "simple_nn") == 2
    kinds = ("mar", "onnx", "reference", "stablehlo")
    assert names(tmp_path) == ["current", *(f"{kind}/{version}" for kind in kinds for version in (1, 2))]
    for artifact in names(tmp_path)[1:]:
        verify(tmp_path / "exports" / "simple_nn" / artifact)
    assert list((tmp_path / "exports" / "simple_nn").glob("*/.*")) == []


def test_ctrl_c_ends_an_export_without_a_trace(tmp_path: Path) -> None:
    plant_weights(tmp_path / "models", "simple_nn", bias=0.5)
    words = command(tmp_path, "-m", "export", "simple_nn")
    with subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True) as process:
        while not names(tmp_path):  # the first format is there, current is written when all are
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=LONG_S) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    found = names(tmp_path)
    assert ("mar/1" in found, "current" in found) == (True, False)
    assert list((tmp_path / "exports" / "simple_nn").glob("*/.*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of 1 MiB; skip where mounting is not permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, timeout=LONG_S, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], timeout=LONG_S, check=True)


def fill(disk: Path) -> Path:
    """Leave 4 KiB free, less than any artifact takes; return the file that fills it."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    filler.write_bytes(b"\0" * max(0, free - 4096))
    return filler


@pytest.mark.parametrize("name", ["simple_nn", "keras_dense"])
def test_a_full_disk_is_one_clear_line_and_leaves_the_old_version_as_it_was(small_disk: Path, name: str) -> None:
    plant_weights(small_disk / "models", name, bias=0.5)
    export(small_disk, name)
    before = names(small_disk, name)
    plant_weights(small_disk / "models", name, bias=1.5)
    filler = fill(small_disk)

    done = run(small_disk, "-m", "export", name)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"python -m export: {name} as ")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(small_disk, name) == before
    assert list((small_disk / "exports" / name).glob("*/.*")) == []
    assert current_version(small_disk / "exports", name) == 1

    filler.unlink()
    export(small_disk, name)
    assert current_version(small_disk / "exports", name) == 2
