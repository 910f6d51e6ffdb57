"""The run folder: one per instance, emptied at each start, with a temporary folder that Unix sockets can live in."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servepath.cli.locked import Held, locked

MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path on Linux, without its final zero
LONGEST_SOCKET_NAME = ".ts.sock.65535"


class RunDirError(Exception):
    """The run folder cannot be used; the text names it and the fix."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """Where one instance keeps its files. temporary: TMPDIR and TEMP of the JVM and its workers."""

    path: Path
    temporary: Path

    @property
    def model_store(self) -> Path:
        """Return the folder of verified copies."""
        return self.path / "model_store"

    @property
    def health(self) -> Path:
        """Return the folder of the health check's calls, one file per model; it is there once every model is ready."""
        return self.path / "health"

    @property
    def key_file(self) -> Path:
        """Return where TorchServe writes its keys: always in its working folder, under this name."""
        return self.path / "key_file.json"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[RunDir]:
    """Lock and empty the run folder at `path`, and clean up in the end. Raises RunDirError when another uses it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)  # keys live here
    try:
        with locked(path / "lock"):
            _clean(path)
            run_dir = RunDir(path, _make_temporary(path))
            run_dir.model_store.mkdir()
            try:
                yield run_dir
            finally:
                _clean(path)
    except Held:
        raise RunDirError(f"another torch_svc runs in {path}; give this one another --run-dir") from None


def _clean(path: Path) -> None:
    link = path / "tmp"
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    for folder in (link, path / "model_store", path / "health"):
        shutil.rmtree(folder, ignore_errors=True)
    (path / "key_file.json").unlink(missing_ok=True)


def _make_temporary(path: Path) -> Path:
    """Return `path`/tmp, or a folder under the system's temporary one, linked there, when that is too long a name."""
    folder = path / "tmp"
    if _fits(folder):
        folder.mkdir()
        return folder
    short = Path(tempfile.mkdtemp(prefix="torch_svc-"))
    if not _fits(short):
        short.rmdir()
        raise RunDirError(f"{path} and {short} are too long for Unix sockets; give a shorter --run-dir or TMPDIR")
    folder.symlink_to(short)
    return short


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES
