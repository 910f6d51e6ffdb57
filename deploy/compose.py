"""Compose on one engine: the project's containers, asked and told through the docker programs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deploy.engine import Engine, EngineError
from servepath.protocols.deployments_file import read_deployments
from servepath.settings import variables

ROOT = Path(__file__).parents[1]
ASK_S = 60.0
UP_S = 600.0
DOWN_S = 180.0


@dataclass(frozen=True, slots=True)
class Project:
    """One Compose project. files: below ROOT. settings: what overrides .env. profiles: those that are on."""

    engine: Engine
    name: str
    files: Sequence[str]
    settings: Mapping[str, str]
    profiles: Sequence[str] = ()

    def model(self) -> dict[str, Any]:
        """Return the whole file as Compose reads it, every profile in it. Raises EngineError."""
        model: dict[str, Any] = json.loads(self.ask("--profile", "*", "config", "--format", "json"))
        return model

    def ask(self, *command: str, timeout_s: float = ASK_S) -> str:
        """Return what `docker compose WORDS` prints. Raises EngineError with its last line."""
        return self._output([*self._compose(), *command], timeout_s)

    def docker(self, *command: str, timeout_s: float = ASK_S) -> str:
        """Return what `docker WORDS` prints. Raises EngineError with its last line."""
        return self._output([self.engine.program, *command], timeout_s)

    def up(self, *services: str, recreate: bool = False) -> None:
        """Start services (none named: all without a profile) and wait until they are healthy. Raises EngineError."""
        alone = ["--no-deps"] if services else []
        recreated = ["--force-recreate"] if recreate else []
        words = ["up", "--detach", "--wait", "--no-build", "--pull", "never", *alone, *recreated, *services]
        self.ask(*words, timeout_s=UP_S)

    def down(self) -> None:
        """Remove containers, networks and volumes. Raises EngineError."""
        self.ask("--profile", "*", "down", "--volumes", "--remove-orphans", timeout_s=DOWN_S)

    def left(self) -> list[str]:
        """Return this project's containers, networks and volumes."""
        mine = ("--filter", f"label=com.docker.compose.project={self.name}", "--format")
        listings = (("ps", "--all", *mine, "{{.Names}}"), ("network", "ls", *mine, "{{.Name}}"))
        return [
            name
            for words in (*listings, ("volume", "ls", *mine, "{{.Name}}"))
            for name in self.docker(*words).splitlines()
        ]

    def container(self, service: str) -> str:
        """Return the id of a service's container. Raises EngineError when there is none."""
        found = self.ask("ps", "--all", "--quiet", service)
        if not found:
            raise EngineError(f"{service} has no container")
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        found: dict[str, Any] = json.loads(self.docker("inspect", self.container(service)))[0]
        return found

    def execute(self, service: str, *words: str, timeout_s: float = ASK_S) -> str:
        """Run a command inside a service's container, as its user, and return what it prints. Raises EngineError."""
        return self.docker("exec", self.container(service), *words, timeout_s=timeout_s)

    def _compose(self) -> list[str]:
        files = [word for file in self.files for word in ("--file", file)]
        profiles = [word for profile in self.profiles for word in ("--profile", profile)]
        return [*_program(self.engine), "--project-name", self.name, *files, *profiles]

    def _output(self, words: Sequence[str], timeout_s: float) -> str:
        environment = compose_environment(self.engine, self.settings)
        what = " ".join(word for word in words[1:] if not word.startswith("-"))[:80]
        try:
            done = subprocess.run(
                words,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"{what}: did not end within {timeout_s:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise EngineError(f"{what}: {last}")
        return done.stdout.strip()


def stack_profiles() -> tuple[str, ...]:
    """Return the profiles of the stacks that have paths: the server of some runs only with its own.

    Raises DeploymentsError.
    """
    return tuple(stack.name for stack in read_deployments(ROOT / "deployments.toml").own_stacks)


def compose_environment(
    engine: Engine, settings: Mapping[str, str], lock: Path = ROOT / "images.lock"
) -> dict[str, str]:
    """Return what Compose puts before .env: the digests of images.lock, the environment, `settings`; later ones win."""
    return {**variables(lock, {}), **engine.environment(), **settings}


@cache
def _program(engine: Engine) -> tuple[str, ...]:
    """Return the command that runs Compose: Docker's plugin, else the wheel's program. Raises EngineError."""
    plugin = subprocess.run(
        [engine.program, "compose", "version"], capture_output=True, timeout=ASK_S, check=False, env=dict(os.environ)
    )
    if plugin.returncode == 0:
        return engine.program, "compose"
    beside = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if beside is None:
        raise EngineError("there is no docker compose: pip install -c constraints.txt '.[deploy]'")
    return (beside,)
