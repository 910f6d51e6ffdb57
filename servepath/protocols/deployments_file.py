"""Reading deployments.toml. A mistake names its line and key.

[servers.NAME] makes a stack of an external server, which speaks the Open Inference Protocol.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.protocols.deployments import (
    ALL,
    SHADOW_IN_FLIGHT,
    Deployment,
    Deployments,
    DeploymentsError,
    GatewayLimits,
    PathLimits,
    Promote,
    Shadow,
)
from servepath.protocols.external import ExternalModel
from servepath.protocols.names import VERSION_LABEL, VERSION_LABEL_RULE
from servepath.protocols.signature import MAX_ELEMENTS, MAX_RANK, MAX_TENSORS
from servepath.protocols.stacks import PATH_STACKS, PRECISIONS, STACKS, external_stack
from servepath.protocols.toml_tables import TomlTables
from servepath.results.names import NO_OP_NAME

# gRPC's numbers are C ints.
MAX_NUMBER = 2**31 - 1
MAX_HEDGE_PERCENT = 5
CEILINGS = MappingProxyType(
    {
        "max_tensors": MAX_TENSORS,
        "max_rank": MAX_RANK,
        "max_elements": MAX_ELEMENTS,
        "hedge_percent": MAX_HEDGE_PERCENT,
    }
)
OFF_AT_ZERO = ("hedge_percent",)
SERVER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# What an external server may not be called, since it means something where a stack's name may stand.
RESERVED = MappingProxyType(
    {"gateway": "the gateway", NO_OP_NAME: "the load test's no-op server", "all": "every path"}
    | {name: f"the stack {name!r}" for name in STACKS}
)
PROTOCOLS = ("oip",)
RAW, TYPED = CONTENTS = ("raw", "typed")
# Nothing is merged: nobody has proven there that a row is answered alike whatever other rows come with it. So that
# server works on several calls at once, or merges them itself.
EXTERNAL_LIMITS = MappingProxyType({"max_merge_rows": 1, "max_in_flight": 32})
EXTERNAL_KEYS = ("name", "version", "precision", "inputs", "outputs")
# Of answers that a promotion counts: errors are counted among as many, and kept.
MIN_AFTER, MAX_AFTER = 10, 100_000
LABELS, LABEL_WEIGHTS = VERSION_KEYS = ("version_labels", "version_weights")


def read_deployments(path: Path) -> Deployments:
    """Read the file. Raises DeploymentsError."""
    text, raw = _read(path)
    return _Reader(path, text).deployments(raw)


def read_gateway_limits(path: Path) -> GatewayLimits:
    """Read [gateway] of the file alone, which may have no model yet. Raises DeploymentsError."""
    text, raw = _read(path)
    return _Reader(path, text).gateway(raw)


def read_names(path: Path) -> list[tuple[str, str]]:
    """Return model and stack of each path in a file of another version, which may have keys unknown here.

    Raises DeploymentsError.
    """
    try:
        models = tomllib.loads(path.read_text())["models"]
        return [(model, stack) for model, table in models.items() for stack in table["stacks"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeploymentsError(f"{path} is not a list of paths ({error!r}); see docs/add-a-path.md") from error


def _read(path: Path) -> tuple[str, Mapping[str, Any]]:
    try:
        text = path.read_text()
        return text, tomllib.loads(text)
    except FileNotFoundError as error:
        raise DeploymentsError(f"{path} is missing; give the list of paths, as docs/add-a-path.md has it") from error
    except OSError as error:
        raise DeploymentsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeploymentsError(f"{path} is not TOML: {error}") from error


T = TypeVar("T", GatewayLimits, PathLimits)


class _Reader:
    """Turns the parsed file into Deployments."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._toml = TomlTables(path, text, DeploymentsError)
        # Of each external server, whether it wants typed contents.
        self._servers: dict[str, bool] = {}

    def deployments(self, raw: Mapping[str, Any]) -> Deployments:
        self._toml.check_keys((), raw, ("gateway", "servers", "models"))
        limits = self.gateway(raw)
        servers = self._toml.table(raw, (), "servers", {})
        for name in servers:
            self._servers[name] = self._server(name, self._toml.table(servers, ("servers",), name))
        models = self._toml.table(raw, (), "models")
        if not models:
            raise self._toml.error((), "models", "no model is listed; add [models.NAME]")
        found = tuple(self._model(name, self._toml.table(models, ("models",), name)) for name in models)
        return Deployments(self._path, limits, found)

    def gateway(self, raw: Mapping[str, Any]) -> GatewayLimits:
        limits = self._limits(("gateway",), self._toml.table(raw, (), "gateway", {}), GatewayLimits)
        if limits.default_deadline_s > limits.max_deadline_s:
            text = (
                f"default_deadline_s is {limits.default_deadline_s:g}, above max_deadline_s {limits.max_deadline_s:g}"
            )
            raise self._toml.error(("gateway",), "default_deadline_s", text)
        return limits

    def _server(self, name: str, raw: Mapping[str, Any]) -> bool:
        table = ("servers", name)
        if not SERVER_NAME.fullmatch(name):
            text = f"{name[:64]!r} is no server's name: lower-case letters, digits, '_' and '-', at most 32"
            raise self._toml.error(("servers",), name, text)
        variables = {stack.address_variable: f"the stack {stack.name!r}" for stack in STACKS.values()}
        variables |= {external_stack(other).address_variable: f"[servers.{other}]" for other in self._servers}
        if taken := RESERVED.get(name) or variables.get(external_stack(name).address_variable):
            raise self._toml.error(("servers",), name, f"{name!r} already means {taken}; give the server another name")
        self._toml.check_keys(table, raw, ("protocol", "contents"))
        self._toml.one_of(table, raw, "protocol", PROTOCOLS)
        return self._toml.one_of(table, {"contents": RAW, **raw}, "contents", CONTENTS) == TYPED

    def _model(self, name: str, raw: Mapping[str, Any]) -> Deployment:
        table = ("models", name)
        try:
            check_model_name(name)
        except ModelNameError as error:
            raise self._toml.error(("models",), name, str(error)) from error
        self._toml.check_keys(table, raw, ("default", "fallback", "stacks", "weights", "shadow", *VERSION_KEYS))
        stacks = self._toml.table(raw, table, "stacks")
        if not stacks:
            raise self._toml.error(table, "stacks", f"no stack is listed; add [models.{name}.stacks.STACK]")
        self._toml.check_keys((*table, "stacks"), stacks, (*PATH_STACKS, *self._servers))
        default = raw.get("default")
        if not isinstance(default, str) or default not in stacks:
            raise self._toml.error(table, "default", f"default must be one of {sorted(stacks)}, got {default!r}")
        paths, external = {}, {}
        for stack in stacks:
            place, values = (*table, "stacks", stack), self._toml.table(stacks, (*table, "stacks"), stack)
            if stack in self._servers:
                external[stack] = self._external(place, values, name)
                values = EXTERNAL_LIMITS | {key: values[key] for key in values if key not in EXTERNAL_KEYS}
            paths[stack] = self._limits(place, values, PathLimits)
        weights = self._weights(table, raw, paths)
        found = Deployment(name, default, paths, external, weights, self._fallback(table, raw, paths))
        found = replace(found, shadow=self._shadow(table, raw, found), version_labels=self._labels(table, raw))
        return replace(found, version_weights=self._version_weights(table, raw, found))

    def _labels(self, table: tuple[str, ...], raw: Mapping[str, Any]) -> dict[str, int]:
        place, found = (*table, LABELS), self._toml.table(raw, table, LABELS, {})
        for label, version in found.items():
            if not VERSION_LABEL.fullmatch(label):
                raise self._toml.error(place, label, f"{label[:64]!r} is no version label: {VERSION_LABEL_RULE}")
            if type(version) is not int or not 0 < version <= MAX_NUMBER:
                raise self._toml.error(
                    place, label, f"{label} must be a version, a whole number above 0, got {version!r}"
                )
        return dict(found)

    def _version_weights(self, table: tuple[str, ...], raw: Mapping[str, Any], model: Deployment) -> dict[str, float]:
        weights = self._weights(table, raw, model.version_labels, LABEL_WEIGHTS)
        for stack in model.called if weights else ():
            if server := PATH_STACKS.get(stack):
                why = f"it serves one version at a time, {server.which_one_version}" if server.which_one_version else ""
            else:
                why = "it is an external server, whose versions are its own"
            if why:
                several = ", ".join(other for other in model.stacks if self._has_several(other)) or "none of its stacks"
                text = f"calls for {model.model} may go to {stack}, and {why}; let them go to {several} alone"
                raise self._toml.error((*table, LABEL_WEIGHTS), next(iter(weights)), text)
        return weights

    def _has_several(self, stack: str) -> bool:
        return stack in PATH_STACKS and not PATH_STACKS[stack].which_one_version

    def _fallback(self, table: tuple[str, ...], raw: Mapping[str, Any], stacks: Iterable[str]) -> tuple[str, ...]:
        found, known = raw.get("fallback", []), sorted(stacks)
        if not isinstance(found, list) or not all(isinstance(stack, str) for stack in found):
            raise self._toml.error(table, "fallback", f"fallback must be a list of stacks, got {found!r}")
        for stack in found:
            if stack not in known:
                raise self._toml.error(table, "fallback", f"fallback has {stack!r}, which is none of {known}")
        if len(set(found)) < len(found):
            raise self._toml.error(table, "fallback", f"fallback has a stack twice: {found}")
        return tuple(found)

    def _weights(
        self, table: tuple[str, ...], raw: Mapping[str, Any], known: Mapping[str, Any], key: str = "weights"
    ) -> dict[str, float]:
        """Return the weights in the file's order, none where there are none."""
        place = (*table, key)
        found = self._toml.table(raw, table, key, {})
        self._toml.check_keys(place, found, known)
        weights = {name: self._percent(place, name, percent) for name, percent in found.items()}
        if weights and round(sum(weights.values()), 2) != ALL:
            raise self._toml.error(
                place, next(iter(found)), f"the {key} of {table[-1]} are {sum(found.values()):g} % together, not 100"
            )
        return weights

    def _percent(self, table: tuple[str, ...], key: str, value: Any) -> float:
        if type(value) not in {int, float} or not 0 <= value <= ALL or round(value, 2) != value:
            what = "each of steps" if key == "steps" else key
            text = f"{what} must be a percentage from 0 to 100, of at most two decimals, got {value!r}"
            raise self._toml.error(table, key, text)
        return float(value)

    def _shadow(self, table: tuple[str, ...], raw: Mapping[str, Any], model: Deployment) -> Shadow | None:
        if "shadow" not in raw:
            return None
        found, place = self._toml.table(raw, table, "shadow"), (*table, "shadow")
        self._toml.check_keys(place, found, (each.name for each in fields(Shadow)))
        stack = self._toml.one_of(place, found, "stack", tuple(model.stacks))
        if model.shares.get(stack) == ALL:
            text = (
                f"{stack} already gets every call for {model.model}; shadow another of its stacks, or lower its weight"
            )
            raise self._toml.error(place, "stack", text)
        percent = self._percent(place, "percent", self._toml.needed(place, found, "percent"))
        max_in_flight = found.get("max_in_flight", SHADOW_IN_FLIGHT)
        self._positive(place, "max_in_flight", max_in_flight, int)
        promote = self._promote(place, found, model.shares.get(stack, 0.0)) if "promote" in found else None
        if promote and not percent:
            raise self._toml.error(place, "percent", "percent is 0, so no answer is compared, and nothing is promoted")
        return Shadow(stack, percent, max_in_flight, promote)

    def _promote(self, table: tuple[str, ...], raw: Mapping[str, Any], weight: float) -> Promote:
        found, place = self._toml.table(raw, table, "promote"), (*table, "promote")
        self._toml.check_keys(place, found, (each.name for each in fields(Promote)))
        after, steps = (self._toml.needed(place, found, key) for key in ("after", "steps"))
        if type(after) is not int or not MIN_AFTER <= after <= MAX_AFTER:
            text = f"after must be a whole number from {MIN_AFTER} to {MAX_AFTER}, got {after!r}"
            raise self._toml.error(place, "after", text)
        if not isinstance(steps, list) or not steps:
            raise self._toml.error(
                place, "steps", f"steps must be a list of percentages such as [1, 10, 100], got {steps!r}"
            )
        percents = tuple(self._percent(place, "steps", step) for step in steps)
        if any(step <= before for before, step in pairwise((weight, *percents))):
            text = f"steps must rise from above the stack's weight, {weight:g}, got {steps}"
            raise self._toml.error(place, "steps", text)
        return Promote(after, percents)

    def _external(self, table: tuple[str, ...], raw: Mapping[str, Any], model: str) -> ExternalModel:
        self._toml.check_keys(table, raw, (*EXTERNAL_KEYS, *(each.name for each in fields(PathLimits))))
        return ExternalModel(
            name=self._toml.text(table, "name", raw.get("name", model)),
            version=self._toml.text(table, "version", raw["version"]) if "version" in raw else "",
            precision=self._toml.one_of(table, raw, "precision", PRECISIONS) if "precision" in raw else "",
            inputs=self._names(table, raw, "inputs"),
            outputs=self._names(table, raw, "outputs"),
            typed=self._servers[table[-1]],
        )

    def _names(self, table: tuple[str, ...], raw: Mapping[str, Any], key: str) -> dict[str, str]:
        found = self._toml.table(raw, table, key, {})
        return {ours: self._toml.text((*table, key), ours, theirs) for ours, theirs in found.items()}

    def _limits(self, table: tuple[str, ...], raw: Mapping[str, Any], kind: type[T]) -> T:
        kinds = {field.name: type(field.default) for field in fields(kind) if field.default is not MISSING}
        self._toml.check_keys(table, raw, kinds)
        for key, value in raw.items():
            self._positive(table, key, value, kinds[key])
        return kind(**raw)

    def _positive(self, table: tuple[str, ...], key: str, value: Any, kind: type[Any]) -> None:
        fits = isinstance(value, int) if kind is int else isinstance(value, int | float)
        off = key in OFF_AT_ZERO
        if not fits or isinstance(value, bool) or not (0 < value < float("inf") or (off and value == 0)):
            what = "a whole number" if kind is int else "a number"
            raise self._toml.error(
                table, key, f"{key} must be {what} {'of 0 or more' if off else 'above 0'}, got {value!r}"
            )
        if value > (most := CEILINGS.get(key, MAX_NUMBER)):
            raise self._toml.error(table, key, f"{key} must be at most {most}, got {value!r}")
