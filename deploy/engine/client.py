"""One Docker engine, asked through the docker program."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ASK_S = 20.0
# Debian's own first: what a machine has beside it may have given up the API of Debian's Engine 20.10.
PROGRAMS = ("/usr/bin/docker", "docker")


class EngineError(Exception):
    """No engine can be had, or it refused a command; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. program: the docker client. host: its DOCKER_HOST. own: whether it is one of ours."""

    program: str
    host: str
    version: str
    own: bool

    def environment(self) -> dict[str, str]:
        """Return the environment in which docker, compose and others reach this engine."""
        # Engine 20.10 without the buildx plugin has the classic builder only, and newer clients ask for the other.
        classic = {"DOCKER_BUILDKIT": "0"} if self.own else {}
        return {**os.environ, "DOCKER_HOST": self.host, **classic}

    def ask(self, *command: str, timeout_s: float = ASK_S) -> str:
        """Return what `docker WORDS` prints. Raises EngineError with the last line of its complaint."""
        return _output([self.program, *command], self.environment(), timeout_s)

    def run(self, *command: str, folder: Path | None = None, timeout_s: float) -> None:
        """Run `docker WORDS`, its output shown. Raises EngineError."""
        try:
            subprocess.run(
                [self.program, *command],
                cwd=folder,
                env=self.environment(),
                timeout=timeout_s,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"docker {command[0]} did not end within {timeout_s:g} s") from None
        except subprocess.CalledProcessError as error:
            raise EngineError(f"docker {command[0]} failed with exit code {error.returncode}") from None

    def has(self, image: str) -> bool:
        """Return whether the engine has an image of this name."""
        try:
            self.ask("image", "inspect", "--format", "{{.Id}}", image)
        except EngineError:
            return False
        return True

    def size(self, image: str) -> int:
        """Return an image's size in bytes, its base included. Raises EngineError."""
        return int(self.ask("image", "inspect", "--format", "{{.Size}}", image))


def find(
    hosts: Sequence[str] = (), environment: Mapping[str, str] = os.environ, programs: Sequence[str] = PROGRAMS
) -> Engine | None:
    """Return the engine that DOCKER_HOST or docker's context names, else the first of `hosts` that answers, or None."""
    program = next(filter(None, map(shutil.which, programs)), None)
    if program is None:
        return None
    named = environment.get("DOCKER_HOST") or _context(program)
    for host in filter(None, (named, *hosts)):
        version = _version(program, host)
        if version is not None:
            return Engine(program, host, version, own=host in hosts)
    return None


def _context(program: str) -> str:
    try:
        return _output(
            [program, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], dict(os.environ), ASK_S
        )
    except EngineError:
        return ""


def _version(program: str, host: str) -> str | None:
    command = [program, "version", "--format", "{{.Server.Version}}"]
    try:
        return _output(command, {**os.environ, "DOCKER_HOST": host}, ASK_S)
    except EngineError:
        return None


def _output(words: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str:
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise EngineError(f"{' '.join(words[1:3])} did not answer within {timeout_s:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(f"docker {' '.join(words[1:3])}: {last}")
    return done.stdout.strip()
