"""The run folder: one instance each, clean before and after, short enough for Unix sockets."""

from pathlib import Path

import pytest

from services.torch_svc import run_dir
from services.torch_svc.run_dir import LONGEST_SOCKET_NAME, MAX_SOCKET_PATH_BYTES


def test_the_temporary_folder_is_inside_and_gone_in_the_end(tmp_path: Path) -> None:
    with run_dir.opened(tmp_path / "run") as found:
        assert found.temporary == tmp_path / "run" / "tmp"
        assert found.temporary.is_dir()
        assert found.model_store.is_dir()
    assert not found.temporary.exists()
    assert not found.model_store.exists()


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    with run_dir.opened(tmp_path / "run") as found:
        assert found.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("length", [80, 200])
def test_sockets_fit_into_the_temporary_folder_however_long_the_run_folders_name_is(
    tmp_path: Path, length: int
) -> None:
    with run_dir.opened(tmp_path / ("r" * length)) as found:
        assert len(bytes(found.temporary / LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES
        assert found.temporary.is_dir()
    assert not found.temporary.exists()


def test_what_a_killed_predecessor_left_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "run"
    path.mkdir()
    (path / "tmp").symlink_to(outside)
    (path / "model_store").mkdir()
    (path / "model_store" / "old.mar").touch()
    (path / "key_file.json").write_text("{}")
    with run_dir.opened(path) as found:
        assert not outside.exists()
        assert not found.key_file.exists()
        assert list(found.model_store.iterdir()) == []


def test_a_second_instance_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with run_dir.opened(tmp_path) as found:
        refusal = pytest.raises(run_dir.RunDirError, match=f"another torch_svc runs in {tmp_path}.*--run-dir")
        with refusal, run_dir.opened(tmp_path):
            pass
        assert found.temporary.is_dir()
