"""Everything that a deployment path or a model must be entered in, side by side, and what one table lacks of another.

Each rule takes the registries as they are and gives one line for each gap; none at all means that all steps of
docs/add-a-path.md and docs/add-a-model.md are done.
"""

import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from export.formats import FORMATS, Format
from export.trained import READERS
from models.registry import Model, read_models
from servepath.artifacts.reference import FORMAT as REFERENCE
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.deployments import Deployment
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import STACKS, Stack, server_of
from servepath.runner.config import GATEWAY, PORTS
from tests.e2e import test_misrouting
from tests.limits import LONG_S
from training.stage import LOOPS

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
CODEC_FUNCTIONS = ("encode_request", "decode_answer", "translate")
# What the runner gives every backend, and the gateway.
BACKEND_OPTIONS = ("--models", "--port")
GATEWAY_OPTIONS = ("--deployments", "--exports", "--port")


@dataclass(frozen=True)
class Registries:
    """One state of all tables.

    helps: what `python -m services.NAME --help` prints, for each service folder. local: the runner's ports by service.
    loops: training's modules by framework. readers: export's by the weights file's suffix. extras: of pyproject.toml.
    layers: the services that import-linter keeps apart. routed: the paths that the misrouting test tells apart.
    """

    stacks: Mapping[str, Stack]
    codecs: Mapping[str, Any]
    helps: Mapping[str, str]
    environment: Mapping[str, str]
    local: Mapping[str, tuple[str, ...]]
    formats: Mapping[tuple[str, str], Format]
    models: Mapping[str, Model]
    loops: Mapping[str, str]
    readers: Mapping[str, Any]
    deployments: tuple[Deployment, ...]
    extras: frozenset[str]
    layers: frozenset[str]
    routed: frozenset[str]

    @property
    def services(self) -> list[str]:
        """Return the backends' process names."""
        return [stack.service for stack in self.stacks.values()]

    @property
    def paths(self) -> set[str]:
        """Return every MODEL@STACK that deployments.toml lists."""
        return {f"{entry.model}@{stack}" for entry in self.deployments for stack in entry.stacks}


@cache
def ours() -> Registries:
    """Return the project's own tables."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = (layer for contract in contracts for layer in contract.get("layers", ()))
    return Registries(
        stacks=STACKS,
        codecs=STACK_CODECS,
        helps={entry.parent.name: _help(entry.parent.name) for entry in (ROOT / "services").glob("*/__main__.py")},
        environment={name: value for name, value in dotenv_values(ROOT / ".env").items() if value is not None},
        local={name: tuple(port.variable for port in ports) for name, ports in PORTS.items()},
        formats=FORMATS,
        models=read_models(),
        loops=LOOPS,
        readers=READERS,
        deployments=read_deployments(ROOT / "deployments.toml").models,
        extras=frozenset(project["project"]["optional-dependencies"]),
        layers=frozenset(name.strip() for layer in layers for name in layer.split("|")),
        routed=frozenset(test_misrouting.PATHS),
    )


def _help(service: str) -> str:
    command = [sys.executable, "-m", f"services.{service}", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=True).stdout


def stacks_fit_together(r: Registries) -> Iterator[str]:
    """Each stack stands under its own name, and shares its process with no other."""
    for name, stack in r.stacks.items():
        if stack.name != name:
            yield f"STACKS[{name!r}] is called {stack.name!r}"
    services = r.services
    yield from (f"two stacks have the service {one!r}" for one in sorted(set(services)) if services.count(one) > 1)


def every_stack_has_a_codec(r: Registries) -> Iterator[str]:
    """STACK_CODECS has a whole codec for each stack, and none for anything else."""
    for name in sorted(r.stacks.keys() ^ {server_of(name) for name in r.codecs}):
        yield f"{name}: in only one of STACKS and STACK_CODECS"
    for name, codec in r.codecs.items():
        for function in CODEC_FUNCTIONS:
            if not callable(getattr(codec, function, None)):
                yield f"{name}: its codec has no {function}()"
        if str(getattr(codec, "METHOD", "")).count("/") != 2:
            yield f"{name}: its codec's METHOD is not /SERVICE/METHOD"


def every_service_starts(r: Registries) -> Iterator[str]:
    """Each backend has an entry point that takes what the runner gives it; so does the gateway."""
    wanted = dict.fromkeys(r.services, BACKEND_OPTIONS) | {GATEWAY: GATEWAY_OPTIONS}
    for service, options in wanted.items():
        if service not in r.helps:
            yield f"services/{service}/__main__.py is missing"
            continue
        for option in options:
            if f" {option} " not in r.helps[service]:
                yield f"python -m services.{service} does not take {option}"


def every_service_listens_on_loopback(r: Registries) -> Iterator[str]:
    """Each service that can be told where to listen says in its --help that it is 127.0.0.1 unless told."""
    for service, text in r.helps.items():
        for option in ("--host", "--metrics-host"):
            found = text.split(f"  {option} ")[1:]
            if found and LOOPBACK not in found[0].split("  --")[0]:
                yield f"python -m services.{service} {option} is not {LOOPBACK} by default"
        if service in {*r.services, GATEWAY} and "  --host " not in text:
            yield f"python -m services.{service} does not take --host"


def every_service_has_ports_and_address(r: Registries) -> Iterator[str]:
    """.env has SERVICE_PORT and the address variable that names it, on loopback; each port is given once."""
    variables = {stack.service: stack.address_variable for stack in r.stacks.values()} | {GATEWAY: "GATEWAY_ADDR"}
    for service, variable in variables.items():
        port = r.environment.get(f"{service.upper()}_PORT", "")
        if not port.isdecimal():
            yield f".env: {service.upper()}_PORT is missing or no port"
        if r.environment.get(variable) != f"{LOOPBACK}:{port}":
            yield f".env: {variable} is not {LOOPBACK}:{port}"
    ports = [value for name, value in r.environment.items() if name.endswith("_PORT")]
    yield from (f".env: port {port} is given twice" for port in sorted(set(ports)) if ports.count(port) > 1)


def the_runner_knows_every_service(r: Registries) -> Iterator[str]:
    """servepath/runner has the ports of every service, its own first, and .env their defaults."""
    for service in sorted({*r.services, GATEWAY} ^ r.local.keys()):
        yield f"{service}: in only one of STACKS and servepath/runner's PORTS"
    for service, variables in r.local.items():
        if variables[0] != f"{service.upper()}_PORT":
            yield f"{service}: PORTS begins with {variables[0]}"
        for variable in variables:
            if not r.environment.get(variable, "").isdecimal():
                yield f".env: {variable}, which servepath/runner needs, is missing or no port"


def every_service_is_in_pyproject(r: Registries) -> Iterator[str]:
    """Each backend has an extra with its dependencies, and a place in the contract that keeps services apart."""
    for service in r.services:
        if service.replace("_", "-") not in r.extras:
            yield f"pyproject.toml: there is no extra {service.replace('_', '-')}"
        if f"services.{service}" not in r.layers:
            yield f"pyproject.toml: no import-linter layer holds services.{service}"


def every_format_has_an_exporter(r: Registries) -> Iterator[str]:
    """Each model's formats are in FORMATS for its framework, the reference among them; each module is there."""
    for name, model in r.models.items():
        for artifact_format in model.formats:
            if (model.framework, artifact_format) not in r.formats:
                yield f"{name}: FORMATS has no ({model.framework!r}, {artifact_format!r})"
        if REFERENCE not in model.formats:
            yield f"{name}: no format {REFERENCE!r}, which probes and load tests ask with"
    for made in r.formats.values():
        if importlib.util.find_spec(made.module) is None:
            yield f"FORMATS names {made.module}, which is no module"


def every_stack_has_a_format(r: Registries) -> Iterator[str]:
    """Some framework's models can be exported to what a stack loads."""
    known = {artifact_format for _, artifact_format in r.formats}
    for stack in r.stacks.values():
        if stack.artifact_format not in known:
            yield f"{stack.name}: FORMATS has no {stack.artifact_format!r} of any framework"


def every_model_can_be_trained(r: Registries) -> Iterator[str]:
    """Each model's architecture is there, its framework has a training loop, and export can read its weights file."""
    for name, model in r.models.items():
        if importlib.util.find_spec(model.builder.partition(":")[0]) is None:
            yield f"{name}: {model.builder} is not there"
        if model.framework not in r.loops:
            yield f"{name}: training has no loop for {model.framework}"
        elif Path(model.weights).suffix not in r.readers:
            yield f"{name}: export cannot read {model.weights}"


def every_path_has_an_artifact(r: Registries) -> Iterator[str]:
    """deployments.toml lists registered models only, on stacks whose format they are exported to."""
    for entry in r.deployments:
        model = r.models.get(entry.model)
        if model is None:
            yield f"deployments.toml: {entry.model} is not in models/"
            continue
        for stack in entry.stacks:
            if r.stacks[stack].artifact_format not in model.formats:
                yield f"{entry.model}@{stack}: models/ does not export it as {r.stacks[stack].artifact_format}"


def every_artifact_is_deployed(r: Registries) -> Iterator[str]:
    """Each model is in deployments.toml, on every stack whose format it is exported to."""
    for name, model in r.models.items():
        for stack in r.stacks.values():
            if stack.artifact_format in model.formats and f"{name}@{stack.name}" not in r.paths:
                yield f"deployments.toml: there is no [models.{name}.stacks.{stack.name}]"
        if name not in {entry.model for entry in r.deployments}:
            yield f"deployments.toml: there is no [models.{name}]"


def every_stack_is_told_apart(r: Registries) -> Iterator[str]:
    """The misrouting test asks a path of every stack that has one, with weights of its own, and no other path."""
    asked, deployed = ({path.partition("@")[2] for path in paths} for paths in (r.routed, r.paths))
    for stack in r.stacks:
        if stack in deployed - asked:
            yield f"{stack}: the PATHS of tests/e2e/test_misrouting.py hold no path on it"
    for path in sorted(r.routed - r.paths):
        yield f"{path}: in the PATHS of tests/e2e/test_misrouting.py, and not in deployments.toml"


RULES: tuple[Callable[[Registries], Iterator[str]], ...] = (
    stacks_fit_together,
    every_stack_has_a_codec,
    every_service_starts,
    every_service_listens_on_loopback,
    every_service_has_ports_and_address,
    the_runner_knows_every_service,
    every_service_is_in_pyproject,
    every_format_has_an_exporter,
    every_stack_has_a_format,
    every_model_can_be_trained,
    every_path_has_an_artifact,
    every_artifact_is_deployed,
    every_stack_is_told_apart,
)
