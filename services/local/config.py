"""What there is to run and where: the environment over .env; nothing else of the runner reads either."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from services.wire.addresses import is_address
from services.wire.stacks import STACKS

BACKENDS = tuple(stack.service for stack in STACKS.values())
GATEWAY = "gateway"
# The order of starting; stopping goes the other way.
SERVICES = (*BACKENDS, GATEWAY)
MAX_PORT = 65535
# Each service's own port comes first.
PORT_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "torch_svc": (
        "TORCH_SVC_PORT",
        "TORCH_SVC_GRPC_MANAGEMENT_PORT",
        "TORCH_SVC_HTTP_PORT",
        "TORCH_SVC_MANAGEMENT_PORT",
        "TORCH_SVC_METRICS_PORT",
    ),
    "tf_svc": ("TF_SVC_PORT",),
    "onnx_svc": ("ONNX_SVC_PORT", "ONNX_SVC_METRICS_PORT"),
    "gateway": ("GATEWAY_PORT", "GATEWAY_METRICS_PORT"),
}


class ConfigError(Exception):
    """A setting is missing or wrong; the text names it."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process to run. command: its words. address: HOST:PORT of its gRPC port. ports: all of them, that one first.

    environment: the whole one that it gets.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ports: tuple[int, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files that the command line names. run_dir: pid and log files; absolute."""

    run_dir: Path
    exports: Path
    deployments: Path


def read_services(places: Places, env_file: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Service]:
    """Give the services by name in the order of starting. Raises ConfigError naming the variable that is wrong."""
    values = {name: value for name, value in dotenv_values(env_file).items() if value} | dict(environment)
    # Where torch_svc publishes TorchServe's key and the gateway reads it.
    token = values.get("TORCH_SVC_TOKEN_FILE") or str(places.run_dir / "torch_svc" / "token")
    inherited = {**environment, "TORCH_SVC_TOKEN_FILE": token, "PYTHONUNBUFFERED": "1"}
    services = {}
    for name in SERVICES:
        ports = tuple(_port(variable, values) for variable in PORT_VARIABLES[name])
        python = values.get(f"{name.upper()}_PYTHON") or sys.executable
        command = (python, "-m", f"services.{name}", *_options(name, places, ports))
        services[name] = Service(name, command, _address(name, ports[0], values), ports, inherited)
    _check_distinct(services)
    return services


def _options(name: str, places: Places, ports: tuple[int, ...]) -> tuple[str, ...]:
    port = ("--port", str(ports[0]))
    exports = str(places.exports)
    return {
        "torch_svc": ("--models", exports, *port, "--run-dir", str(places.run_dir / "torch_svc")),
        "tf_svc": ("--models", exports, *port, "--run-dir", str(places.run_dir / "tf_svc")),
        "onnx_svc": ("--models", exports, *port, "--metrics-port", str(ports[-1])),
        "gateway": (
            *("--deployments", str(places.deployments), "--exports", exports, *port),
            *("--metrics-port", str(ports[-1])),
        ),
    }[name]


def _port(variable: str, values: Mapping[str, str]) -> int:
    text = values.get(variable, "")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT):
        raise ConfigError(f"{variable} must be a port from 1 to {MAX_PORT}, got {text!r}; the defaults are in .env")
    return int(text)


def _address(name: str, port: int, values: Mapping[str, str]) -> str:
    """Give where others will look for the service, having checked that it will be there."""
    variable = f"{name.upper()}_ADDR"
    address = values.get(variable, "")
    if not is_address(address):
        raise ConfigError(f"{variable} must be HOST:PORT, got {address!r}; the defaults are in .env")
    if address.rpartition(":")[2] != str(port):
        raise ConfigError(f"{variable} is {address!r} and {name.upper()}_PORT is {port}: set both to the same port")
    return address


def _check_distinct(services: Mapping[str, Service]) -> None:
    owners: dict[int, str] = {}
    for service in services.values():
        for variable, port in zip(PORT_VARIABLES[service.name], service.ports, strict=True):
            if port in owners:
                raise ConfigError(f"{variable} and {owners[port]} are both {port}: give each its own port")
            owners[port] = variable
