"""What there is to run and where: the environment over .env; nothing else of the runner reads either."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from servepath.protocols import version_file
from servepath.protocols.addresses import EXPECTED, is_address, socket_path
from servepath.protocols.stacks import STACKS

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
    """One process to run. command: its words. address: HOST:PORT of its gRPC port, or unix:PATH.

    ports: all of them, that one first. environment: the whole one that it gets.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ports: tuple[int, ...]
    environment: Mapping[str, str]

    def port_variables(self) -> Iterable[tuple[str, int]]:
        """Return each port with the variable that sets it."""
        return zip(PORT_VARIABLES[self.name], self.ports, strict=bool(self.ports))


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Folders and files that the command line names. run_dir: pid and log files; absolute."""

    run_dir: Path
    exports: Path
    deployments: Path


def read_services(
    run_paths: RunPaths, env_file: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, Service]:
    """Return the services by name in the order of starting. Raises ConfigError naming the variable that is wrong."""
    values = {name: value for name, value in dotenv_values(env_file).items() if value} | dict(environment)
    # Where torch_svc publishes TorchServe's key, tf_svc its server's version, and the gateway reads both.
    token = values.get("TORCH_SVC_TOKEN_FILE") or str(run_paths.run_dir / "torch_svc" / "token")
    version = values.get(version_file.FILE_VARIABLE) or str(run_paths.run_dir / "tf_svc" / version_file.NAME)
    shared = {"TORCH_SVC_TOKEN_FILE": token, version_file.FILE_VARIABLE: version}
    inherited = {**environment, **shared, "PYTHONUNBUFFERED": "1"}
    services = {}
    for name in SERVICES:
        ports = _ports(name, values)
        python = values.get(f"{name.upper()}_PYTHON") or sys.executable
        address = _address(name, ports, values)
        command = (python, "-m", f"services.{name}", *_options(name, run_paths, ports, address))
        services[name] = Service(name, command, address, ports, inherited)
    _check_distinct(services)
    return services


def _ports(name: str, values: Mapping[str, str]) -> tuple[int, ...]:
    if name == "tf_svc" and socket_path(values.get("TF_SVC_ADDR", "")):
        return ()
    return tuple(_port(variable, values) for variable in PORT_VARIABLES[name])


def _options(name: str, run_paths: RunPaths, ports: tuple[int, ...], address: str) -> tuple[str, ...]:
    port = ("--port", str(ports[0])) if ports else ("--socket", str(socket_path(address)))
    exports = str(run_paths.exports)
    metrics = ("--metrics-port", *map(str, ports[-1:]))
    return {
        "torch_svc": ("--models", exports, *port, "--run-dir", str(run_paths.run_dir / "torch_svc")),
        "tf_svc": ("--models", exports, *port, "--run-dir", str(run_paths.run_dir / "tf_svc")),
        "onnx_svc": ("--models", exports, *port, *metrics),
        "gateway": ("--deployments", str(run_paths.deployments), "--exports", exports, *port, *metrics),
    }[name]


def _port(variable: str, values: Mapping[str, str]) -> int:
    text = values.get(variable, "")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT):
        raise ConfigError(f"{variable} must be a port from 1 to {MAX_PORT}, got {text!r}; the defaults are in .env")
    return int(text)


def _address(name: str, ports: tuple[int, ...], values: Mapping[str, str]) -> str:
    """Return where others will look for the service, having checked that it will be there."""
    variable = f"{name.upper()}_ADDR"
    address = values.get(variable, "")
    if not is_address(address):
        raise ConfigError(f"{variable} must be {EXPECTED}, got {address!r}; the defaults are in .env")
    if ports and address.rpartition(":")[2] != str(ports[0]):
        raise ConfigError(f"{variable} is {address!r} and {name.upper()}_PORT is {ports[0]}: set both to the same port")
    return address


def _check_distinct(services: Mapping[str, Service]) -> None:
    owners: dict[int, str] = {}
    for service in services.values():
        for variable, port in service.port_variables():
            if port in owners:
                raise ConfigError(f"{variable} and {owners[port]} are both {port}: give each its own port")
            owners[port] = variable
