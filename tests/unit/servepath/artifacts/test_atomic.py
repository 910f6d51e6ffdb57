import subprocess
import sys
from pathlib import Path

import pytest

from servepath.artifacts.atomic import new_folder, write_file
from tests.limits import LONG_S

# Runs `servepath.artifacts.atomic` in a process that dies by SIGKILL just before its first rename, as in a power cut at
# that moment.
KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from servepath.artifacts.atomic import new_folder, write_file
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == "os.rename" else None)
path = Path(sys.argv[2])
if sys.argv[1] == "file":
    write_file(path, "new")
else:
    with new_folder(path) as folder:
        (folder / "part").write_text("new")
"""


def run_until_killed(kind: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, kind, path], timeout=LONG_S, check=False)
    assert done.returncode == -9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_has_its_content_and_mode_and_leaves_no_other(tmp_path: Path) -> None:
    write_file(tmp_path / "deep" / "key", b"secret", mode=0o600)
    path = tmp_path / "deep" / "key"
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(path.parent) == ["key"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "current"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud800")
    with pytest.raises(TypeError):
        write_file(path, 7)  # type: ignore[arg-type] # fails inside, after the temporary file is there
    assert path.read_text() == "old"
    assert names(tmp_path) == ["current"]


def test_a_process_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "current"
    write_file(path, "old")
    run_until_killed("file", path)
    assert path.read_text() == "old"
    write_file(path, "new")
    assert path.read_text() == "new"


def test_a_new_folder_appears_with_all_its_files_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "onnx" / "1"
    with new_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("content")
        assert not path.exists()
        assert folder.name.startswith(".")
    assert (path / "sub" / "file").read_text() == "content"
    assert path.stat().st_mode & 0o777 == 0o755
    assert names(path.parent) == ["1"]


def test_a_block_that_raises_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "onnx" / "1"
    with pytest.raises(ZeroDivisionError), new_folder(path) as folder:  # noqa: PT012 - a block that writes and then fails
        (folder / "file").write_text("content")
        _ = 1 / 0
    assert names(path.parent) == []


def test_a_folder_that_is_there_is_never_changed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "1") as folder:
        (folder / "file").write_text("first")
    with pytest.raises(FileExistsError, match="never changed"), new_folder(tmp_path / "1"):
        pytest.fail("the block must not run")
    assert (tmp_path / "1" / "file").read_text() == "first"


def test_of_two_writers_of_one_folder_the_second_fails_and_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "1"
    with pytest.raises(OSError, match="not empty"), new_folder(path) as second:  # noqa: PT012 - the inner one must end first
        (second / "file").write_text("second")
        with new_folder(path) as first:
            (first / "file").write_text("first")
    assert (path / "file").read_text() == "first"
    assert names(tmp_path) == ["1"]


def test_a_process_killed_before_the_rename_leaves_no_folder_at_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "1"
    run_until_killed("folder", path)
    assert not path.exists()
    assert all(name.startswith(".1.") for name in names(tmp_path))
    with new_folder(path) as folder:
        (folder / "part").write_text("again")
    assert (path / "part").read_text() == "again"
