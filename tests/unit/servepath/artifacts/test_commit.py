import subprocess
from pathlib import Path

from servepath.artifacts.commit import git_commit, names_code

IDENTITY = ("-c", "user.name=n", "-c", "user.email=e@example.org")


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", folder, *IDENTITY, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_digits_are_given_though_a_tag_is_there_and_changed_files_are_told(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "m")
    git(tmp_path, "tag", "-a", "v1", "-m", "m")
    digits = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == digits
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{digits}-dirty"
    assert (names_code(digits), names_code(f"{digits}-dirty")) == (True, False)


def test_outside_git_it_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    assert not names_code("unknown")


def test_outside_git_what_the_images_build_wrote_down_is_given(tmp_path: Path) -> None:
    (tmp_path / ".commit").write_text("0123abc-dirty\n")
    assert git_commit(tmp_path) == "0123abc-dirty"
