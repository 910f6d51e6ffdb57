"""deployments.toml: which models run on which stacks, their defaults and limits. A mistake names its line and key."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.protocols.stacks import STACKS, Stack

# gRPC's numbers are C ints.
MAX_NUMBER = 2**31 - 1


class DeploymentsError(Exception):
    """deployments.toml cannot be used; the text names file, line, key and fix."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What the gateway accepts: message size in bytes, deadlines and draining time in seconds."""

    max_message_bytes: int = 16 * 2**20
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0
    drain_s: float = 25.0
    probe_interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PathLimits:
    """What one path takes: calls at its server at once, calls waiting for that, bytes in one message to its server.

    max_merge_rows, max_merge_bytes: bounds of the calls that waiting ones are merged into; 1 row merges nothing.
    """

    max_in_flight: int = 2
    max_queue: int = 1024
    max_merge_rows: int = 64
    max_merge_bytes: int = 64 * 2**10
    max_message_bytes: int = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model: its default stack and the limits of each stack that it runs on."""

    model: str
    default: str
    stacks: Mapping[str, PathLimits]

    @property
    def names(self) -> dict[str, str]:
        """Return the names that callers may use, MODEL and MODEL@STACK, and the stack that each means."""
        return {self.model: self.default} | {f"{self.model}@{stack}": stack for stack in self.stacks}


@dataclass(frozen=True, slots=True)
class Deployments:
    """The whole file."""

    gateway: GatewayLimits
    models: tuple[Deployment, ...]

    @property
    def paths(self) -> dict[tuple[str, str], PathLimits]:
        """Return the limits of each path, by model and stack, in the file's order."""
        return {(one.model, stack): limits for one in self.models for stack, limits in one.stacks.items()}

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Return the stacks that some model is on, in the order of STACKS: the servers that have to run."""
        return tuple(stack for name, stack in STACKS.items() if any(name in one.stacks for one in self.models))


def read_deployments(path: Path) -> Deployments:
    """Read the file. Raises DeploymentsError."""
    try:
        text = path.read_text()
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise DeploymentsError(f"{path} is missing; give the list of paths with --deployments FILE") from error
    except OSError as error:
        raise DeploymentsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeploymentsError(f"{path} is not TOML: {error}") from error
    return _Reader(path, text).deployments(raw)


def read_names(path: Path) -> list[tuple[str, str]]:
    """Return model and stack of each path in a file of another version, which may have keys unknown here.

    Raises DeploymentsError.
    """
    try:
        models = tomllib.loads(path.read_text())["models"]
        return [(model, stack) for model, table in models.items() for stack in table["stacks"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeploymentsError(f"{path} is not a list of paths ({error!r}); see docs/add-a-path.md") from error


T = TypeVar("T", GatewayLimits, PathLimits)


class _Reader:
    """Turns the parsed file into Deployments, and knows the lines to point at."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def deployments(self, raw: Mapping[str, Any]) -> Deployments:
        self._known((), raw, ("gateway", "models"))
        limits = self._limits(("gateway",), self._table(raw, (), "gateway", {}), GatewayLimits)
        if limits.default_deadline_s > limits.max_deadline_s:
            text = (
                f"default_deadline_s is {limits.default_deadline_s:g}, above max_deadline_s {limits.max_deadline_s:g}"
            )
            raise self._error(("gateway",), "default_deadline_s", text)
        models = self._table(raw, (), "models")
        if not models:
            raise self._error((), "models", "no model is listed; add [models.NAME]")
        return Deployments(limits, tuple(self._model(name, self._table(models, ("models",), name)) for name in models))

    def _model(self, name: str, raw: Mapping[str, Any]) -> Deployment:
        table = ("models", name)
        try:
            check_model_name(name)
        except ModelNameError as error:
            raise self._error(("models",), name, str(error)) from error
        self._known(table, raw, ("default", "stacks"))
        stacks = self._table(raw, table, "stacks")
        if not stacks:
            raise self._error(table, "stacks", f"no stack is listed; add [models.{name}.stacks.STACK]")
        self._known((*table, "stacks"), stacks, STACKS)
        default = raw.get("default")
        if not isinstance(default, str) or default not in stacks:
            raise self._error(table, "default", f"default must be one of {sorted(stacks)}, got {default!r}")
        paths = {
            stack: self._limits((*table, "stacks", stack), self._table(stacks, (*table, "stacks"), stack), PathLimits)
            for stack in stacks
        }
        return Deployment(name, default, paths)

    def _limits(self, table: tuple[str, ...], raw: Mapping[str, Any], kind: type[T]) -> T:
        kinds = {field.name: type(field.default) for field in fields(kind) if field.default is not MISSING}
        self._known(table, raw, kinds)
        for key, value in raw.items():
            fits = isinstance(value, int) if kinds[key] is int else isinstance(value, int | float)
            if not fits or isinstance(value, bool) or not 0 < value < float("inf"):
                what = "a whole number" if kinds[key] is int else "a number"
                raise self._error(table, key, f"{key} must be {what} above 0, got {value!r}")
            if value > MAX_NUMBER:
                raise self._error(table, key, f"{key} must be at most {MAX_NUMBER}, got {value!r}")
        return kind(**raw)

    def _table(
        self, raw: Mapping[str, Any], table: tuple[str, ...], key: str, default: Any = None
    ) -> Mapping[str, Any]:
        value = raw.get(key, default)
        if not isinstance(value, dict):
            found = "is missing" if value is None else f"must be a table, got {value!r}"
            raise self._error(table, key, f"[{'.'.join((*table, key))}] {found}")
        return value

    def _known(self, table: tuple[str, ...], raw: Mapping[str, Any], known: Iterable[str]) -> None:
        names = sorted(known)
        for key in raw:
            if key not in names:
                close = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names)}"
                where = f"in [{'.'.join(table)}]" if table else "at the top"
                raise self._error(table, key, f"unknown key {key!r} {where}; {hint}")

    def _error(self, table: tuple[str, ...], key: str, text: str) -> DeploymentsError:
        return DeploymentsError(f"{self._path}, line {self._line(table, key)}: {text}")

    def _line(self, table: tuple[str, ...], key: str) -> int:
        """Return the number of the line that holds a key, or the header of its table, or 1."""
        header: tuple[str, ...] = ()
        best = 1
        for number, line in enumerate(self._lines, 1):
            found = re.match(r"\s*\[([^\]]+)\]", line)
            if found:
                header = tuple(part.strip().strip("\"'") for part in found[1].split("."))
                if header[: len(table) + 1] == (*table, key):
                    return number
                best = number if header == table else best
            elif header == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        return best
