"""Tuned settings: one file per path, MODEL@STACK.toml, written by `servepath tune`, applied by `servepath up --tuned`.

A file says for which artifact and machine its settings were found, and how sure that is. Every service that is
started with the folder of the files in use (SERVEPATH_TUNED) takes what is its own from it: the gateway a path's
limits, a server its settings for a model.
"""

import json
import logging
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from servepath.artifacts.manifest import ArtifactError, artifact_folder, current_version, read_manifest
from servepath.protocols.deployments import Deployments
from servepath.protocols.stacks import GATEWAY_TUNABLES, PATH_STACKS, Stack

log = logging.getLogger(__name__)
VARIABLE = "SERVEPATH_TUNED"
GOALS = MappingProxyType({"rate": "rate in rising blocks", "latency": "speed", "cpu": "requests a CPU second"})
OF_GATEWAY = frozenset(tunable.name for tunable in GATEWAY_TUNABLES)
# How a reduced precision is said among the settings of a search; a file has the path's own name for it.
PRECISION = "precision"
AGAIN = "run: servepath tune"
Values = Mapping[str, int]


class TunedError(ArtifactError):
    """Tuned settings cannot be used: the file is none, or for another artifact or machine; the text names the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning a path found. settings: none where nothing was certainly better than what was in use.

    path: whose settings they are: the tuned one, or the same model and stack in a reduced precision. goal: a key of
    GOALS. rate_rps: that was asked for, 0 where the goal is the rate. ratio, low, high: how many times as good as the
    default settings, and its 95 % interval (over all looks where confirmed), from `rounds`. confirmed: they came after
    the choice. trials: how many settings were tried. best: those whose ratio it is, where they are not used since
    it may be 1. default_limits: those in deployments.toml that they were compared with. requests: which ones, over how
    many connections, in words; older files have none.
    """

    path: str
    settings: Values
    goal: str
    slo_p99_ms: float
    rate_rps: float
    ratio: float
    low: float
    high: float
    rounds: int
    confirmed: bool
    trials: int
    best: str
    date: str
    host: str
    engine: str
    artifact_sha256: str
    default_limits: str
    git_commit: str
    seed: int
    requests: str = ""

    @property
    def stack(self) -> Stack:
        """Return the path's stack."""
        return PATH_STACKS[self.path.partition("@")[2]]

    @property
    def limits(self) -> Values:
        """Return the settings that are the gateway's."""
        return {name: value for name, value in self.settings.items() if name in OF_GATEWAY}

    @property
    def of_server(self) -> Values:
        """Return the settings that are the server's."""
        return {name: value for name, value in self.settings.items() if name not in OF_GATEWAY}

    def to_toml(self) -> str:
        """Return the file's content."""
        values = asdict(self)
        settings = values.pop("settings")
        head = f"# Settings of {self.path}: servepath up --tuned applies them."
        lines = [head, *_lines(values), "", "[settings]", *_lines(settings)]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        if self.best or not self.rounds:
            return f"{self.path}: the default settings; none was certainly better ({self.sure})"
        return f"{self.path}: {worded(self.settings)} ({self.sure})"

    @property
    def sure(self) -> str:
        """Return how good the settings are, and how sure that is."""
        if not self.rounds:
            return f"{self.trials} tried, {self.date}"
        said = f"{self.best}: {self.ratio:.2f}" if self.best else f"{self.ratio:.2f}"
        looks = " over all looks" * self.confirmed
        interval = "" if math.isinf(self.high) else f", 95 % CI{looks} {self.low:.2f}..{self.high:.2f}"
        unsure = "" if self.confirmed else ", not confirmed"
        rounds = f"{self.rounds} rounds" + (f" with {self.requests}" if self.requests else "")
        return f"{said} times the default's {GOALS[self.goal]}{interval}, {rounds}{unsure}, {self.date}"


def worded(settings: Mapping[str, Any]) -> str:
    """Return settings as people read them."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "default"


def file_of(folder: Path, path: str) -> Path:
    """Return where the settings of a path are."""
    return folder / f"{path}.toml"


def read(file: Path) -> Tuned:
    """Read a file. Raises TunedError naming it."""
    try:
        raw = tomllib.loads(file.read_text())
        kinds = {each.name: each.type for each in fields(Tuned)}
        found = Tuned(**raw)
        wrong = [
            name
            for name, kind in kinds.items()
            if kind in {int, float, str, bool} and not _is(getattr(found, name), kind)
        ]
        known = {tunable.name for tunable in (*GATEWAY_TUNABLES, *found.stack.tunables)}
        wrong += [name for name, value in found.settings.items() if name not in known or not _is_setting(value)]
        wrong += ["goal"] if found.goal not in GOALS else []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be read as tuned settings: %r", file, error)  # clients may see the text below
        raise TunedError(f"{file} is not a file of tuned settings; remove it and {AGAIN}") from error
    if wrong:
        raise TunedError(f"{file}: {wrong[0]} is not what it may be; remove the file and {AGAIN}")
    return found


def find(folder: Path) -> dict[str, Tuned]:
    """Return all files of a folder, by the path that was tuned. Raises TunedError for one that cannot be used."""
    files = {file.stem: read(file) for file in sorted(folder.glob("*.toml"))}
    for name, found in files.items():
        if other := next((one for one in files if one != name and files[one].path == found.path), None):
            raise TunedError(
                f"{file_of(folder, name)} and {file_of(folder, other)} both have settings of {found.path}; remove one"
            )
    return files


def limits_of(deployments: Deployments, path: str) -> str:
    """Return the limits of a path in deployments.toml, in words."""
    model, _, stack = path.partition("@")
    return worded(asdict(deployments.paths[model, stack]))


def refuse_stale(file: Path, found: Tuned, exports: Path, host: str, default_limits: str) -> None:
    """Raise TunedError for settings of another artifact, machine or default than those of here.

    Raises ArtifactError without an artifact.
    """
    name = found.path.partition("@")[0]
    version = current_version(exports, name)
    current = read_manifest(artifact_folder(exports, name, found.stack.artifact_format, version)).sha256
    if found.artifact_sha256 != current:
        raise TunedError(
            f"{file} is for another artifact of {found.path} ({found.artifact_sha256[:12]}, current is "
            f"{current[:12]}); {AGAIN} {file.stem}, or remove the file"
        )
    if found.host != host:
        raise TunedError(
            f"{file} is for another machine ({found.host}; this one: {host}); {AGAIN} {file.stem}, or remove the file"
        )
    if found.default_limits != default_limits:
        raise TunedError(
            f"{file} was compared with other limits ({found.default_limits}; now: {default_limits}); {AGAIN} "
            f"{file.stem}, or remove the file"
        )


def in_use(folder: Path | None) -> dict[str, Tuned]:
    """Return the settings that a service is started with, by the path that has them.

    Raises TunedError, also for a folder that is not there.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise TunedError(f"{VARIABLE} names {folder}, which is not there; {AGAIN}, or start without that variable")
    return {found.path: found for found in find(folder).values()}


def of_artifact(folder: Path | None, artifact: Path) -> Values:
    """Return a server's settings for the model in EXPORTS/MODEL/FORMAT/VERSION; none without any. Raises TunedError."""
    name, made = artifact.parents[1].name, artifact.parent.name
    stack = next((stack.name for stack in PATH_STACKS.values() if stack.artifact_format == made), "")
    found = in_use(folder).get(f"{name}@{stack}")
    return found.of_server if found else {}


def largest(folder: Path | None, stack: str, name: str, otherwise: int) -> int:
    """Return a setting that a server has once for all its models: the largest of theirs. Raises TunedError."""
    files = [found for found in in_use(folder).values() if found.stack.service == PATH_STACKS[stack].service]
    return max((found.settings[name] for found in files if name in found.settings), default=otherwise)


def applied(deployments: Deployments, folder: Path | None) -> Deployments:
    """Return the deployments with the limits of the tuned paths. Raises TunedError."""
    found = in_use(folder)
    models = []
    for one in deployments.models:
        limits = {
            stack: found[f"{one.model}@{stack}"].limits for stack in one.stacks if f"{one.model}@{stack}" in found
        }
        stacks = {stack: replace(own, **limits.get(stack, {})) for stack, own in one.stacks.items()}
        models.append(replace(one, stacks=stacks))
    return replace(deployments, models=tuple(models))


def _lines(values: Mapping[str, Any]) -> list[str]:
    # JSON's texts and numbers are TOML's, but for infinity.
    said = {
        name: "inf" if value == math.inf else json.dumps(value, ensure_ascii=False) for name, value in values.items()
    }
    return [f"{name} = {text}" for name, text in said.items()]


def _is(value: Any, kind: Any) -> bool:
    return type(value) in ({int, float} if kind is float else {kind})


def _is_setting(value: Any) -> bool:
    return type(value) is int and value > 0
