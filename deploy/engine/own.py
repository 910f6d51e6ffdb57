"""An engine of our own, for machines on which none runs: Debian's docker.io, as root, in one folder.

Everybody who uses it holds a shared lock; the last one out stops it. Images stay in the folder for the next time;
`python -m deploy.engine clean` removes it. dockerd changes the machine's network: that is undone in the end
(deploy/engine/network.py).
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.engine import network
from deploy.engine.client import Engine, EngineError, find
from servepath.cli.children import end

FOLDER = Path("/var/tmp/servepath-engine")  # noqa: S108 - root's alone (mode 0700), and short enough for Unix sockets
# Programs that an engine of ours needs, and the Debian packages that have them.
PACKAGES: Mapping[str, str] = {"dockerd": "docker.io", "debootstrap": "debootstrap", "ip": "iproute2"}
INSTALL_S = 600.0
START_S = 60.0
STOP_S = 40.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """Where an engine of ours keeps its things. folder is absolute."""

    folder: Path

    @property
    def host(self) -> str:
        """Return the engine's DOCKER_HOST."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def pid_file(self) -> Path:
        """Return the file that holds dockerd's process id."""
        return self.folder / "dockerd.pid"

    @property
    def log(self) -> Path:
        """Return the file that takes dockerd's output."""
        return self.folder / "dockerd.log"


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Yield a running engine: the machine's, else our own for as long as somebody uses it. Raises EngineError.

    There is one of ours on a machine, never two: both would use the same bridge and rules of the packet filter.
    """
    found = find()
    if found is not None:
        yield found
        return
    if os.environ.get("DOCKER_HOST"):
        raise EngineError(f"DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer: correct it, or unset it")
    if os.geteuid() != 0:
        raise EngineError("no Docker engine answers, and only root can start one: start Docker, or run this as root")
    place = EngineFiles(FOLDER)
    place.folder.mkdir(exist_ok=True, mode=0o700)
    if place.folder.is_symlink() or place.folder.stat().st_uid != 0:  # its parent is everybody's
        raise EngineError(f"{FOLDER} is not owned by root; remove it")
    with (place.folder / "users").open("w") as users:
        try:
            yield _enter(place, users.fileno())
        finally:
            _leave(place, users.fileno())


def stop(place: EngineFiles) -> None:
    """Stop the engine, with all its containers, and undo what it did to the machine. Raises EngineError."""
    pid = _pid(place)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        if not _until(lambda: _pid(place) is None, STOP_S):
            os.kill(pid, signal.SIGKILL)
            raise EngineError(f"dockerd (pid {pid}) did not stop within {STOP_S:g} s and was killed: see {place.log}")
    network.undo(place.folder / "network.json")
    _unmount(place.folder)


def clean() -> None:
    """Remove the folder with all images. Raises EngineError while somebody uses it."""
    place = EngineFiles(FOLDER)
    if not place.folder.exists():
        return
    with (place.folder / "users").open("w") as users:
        if not _alone(users.fileno()):
            raise EngineError(f"the engine in {place.folder} is in use: wait until it is free")
        stop(place)
        shutil.rmtree(place.folder)


def _enter(place: EngineFiles, users: int) -> Engine:
    with (place.folder / "start").open("w") as starting:  # one at a time
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        found = find([place.host])
        return found or _start(place)


def _leave(place: EngineFiles, users: int) -> None:
    with (place.folder / "start").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if _alone(users):
            stop(place)
        fcntl.flock(users, fcntl.LOCK_UN)  # before the next one may ask


def _alone(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(place: EngineFiles) -> Engine:
    _install()
    found = find()  # Debian's package starts its own service where there is an init system
    if found is not None:
        return found
    stop(place)  # what a killed one left
    network.remember(place.folder / "network.json")
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            _command(place), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        return _started(process, place)
    except BaseException:
        end(process, STOP_S)  # it may have no pid file yet, by which `stop` would find it
        raise


def _started(process: "subprocess.Popen[bytes]", place: EngineFiles) -> Engine:
    """Return the engine once it answers. Raises EngineError when dockerd ends, or does not answer in time."""
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() < begin + START_S:
        found = find([place.host])
        if found is not None:
            return found
        time.sleep(POLL_S)
    raise EngineError(f"dockerd does not start: {_last_line(place.log)} (all of it: {place.log})")


def _command(place: EngineFiles) -> list[str]:
    """Return dockerd's command line.

    A container's packets must not be larger than what the machine's own link takes.
    """
    folder = place.folder
    return [
        *("dockerd", f"--host={place.host}", f"--pidfile={place.pid_file}"),
        *(f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
        *(f"--mtu={network.mtu()}", "--log-level=warn"),
    ]


def _install() -> None:
    """Install what Debian has and this machine lacks. Raises EngineError."""
    missing = [package for program, package in PACKAGES.items() if not _has(program)]
    if not missing:
        return
    if not _has("apt-get"):
        raise EngineError("no Docker engine answers, and docker.io can be installed on Debian only: install Docker")
    # invoke-rc.d starts no service in runlevel 1.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(
            ["apt-get", "-qq", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise EngineError(f"apt-get cannot install {' '.join(missing)}: {last}")


def _has(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is not None


def _pid(place: EngineFiles) -> int | None:
    """Return the process id of the dockerd that this folder belongs to, if it lives."""
    try:
        pid = int(place.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--pidfile={place.pid_file}".encode() in words else None


def _unmount(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True, timeout=STOP_S)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it logged nothing"])[-1]
