"""What there is to run and where: the environment over .env; nothing else of the runner reads either."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from servepath.protocols.addresses import socket_path
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import METRICS, STACKS, Port, service_files
from servepath.settings import SettingsError, address, fixed_port, read_variable, variables

BACKENDS = tuple(stack.service for stack in STACKS.values())
GATEWAY = "gateway"
# The order of starting; stopping goes the other way.
SERVICES = (*BACKENDS, GATEWAY)
# Each service's own port comes first.
PORTS: Mapping[str, tuple[Port, ...]] = {stack.service: stack.ports for stack in STACKS.values()} | {
    GATEWAY: (Port("GATEWAY_PORT", "gRPC"), Port("GATEWAY_METRICS_PORT", METRICS))
}
BACKEND_OPTIONS = ("--models", "{exports}")
# {run_dir} is a service's own folder in the run folder.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    stack.service: (*BACKEND_OPTIONS, *stack.options) for stack in STACKS.values()
} | {
    GATEWAY: (
        *("--deployments", "{deployments}", "--exports", "{exports}", "--metrics-port", "{metrics_port}"),
        *("--state", "{state}"),
    )
}
SOCKETS = frozenset(stack.service for stack in STACKS.values() if stack.socket)


@dataclass(frozen=True, slots=True)
class Service:
    """One process to run. command: program and arguments. address: HOST:PORT of its gRPC port, or unix:PATH.

    ports: all of them, that one first. environment: the whole one that it gets.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ports: tuple[int, ...]
    environment: Mapping[str, str]

    def port_variables(self) -> Iterable[tuple[str, int]]:
        """Return each port with the variable that sets it."""
        return zip((port.variable for port in PORTS[self.name]), self.ports, strict=bool(self.ports))


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Folders and files that the command line names. run_dir: pid and log files; absolute."""

    run_dir: Path
    exports: Path
    deployments: Path


def read_services(
    run_paths: RunPaths, env_file: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, Service]:
    """Return the services by name in the order of starting. Raises SettingsError naming the variable that is wrong."""
    values = variables(env_file, environment)
    shared = {variable: str(file) for variable, file in service_files(values, run_paths.run_dir).items()}
    inherited = {**environment, **shared, "PYTHONUNBUFFERED": "1"}
    services = {}
    for name in SERVICES:
        ports = _ports(name, values)
        python = values.get(f"{name.upper()}_PYTHON") or sys.executable
        address = _address(name, ports, values)
        command = (python, "-m", f"services.{name}", *_options(name, run_paths, ports, address, values))
        services[name] = Service(name, command, address, ports, inherited)
    _check_distinct(services)
    return services


def read_external(
    deployments: Path, env_file: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, tuple[str, str]]:
    """Return variable and address of each external server that a model is on, by name.

    Nothing here starts them. Raises SettingsError naming the variable that is wrong, and DeploymentsError.
    """
    values = variables(env_file, environment)
    stacks = [stack for stack in read_deployments(deployments).stacks.values() if stack.external]
    named = {stack.name: stack.address_variable for stack in stacks}
    return {name: (variable, read_variable(values, variable, address)) for name, variable in named.items()}


def _ports(name: str, values: Mapping[str, str]) -> tuple[int, ...]:
    if name in SOCKETS and socket_path(values.get(f"{name.upper()}_ADDR", "")):
        return ()
    return tuple(read_variable(values, port.variable, fixed_port) for port in PORTS[name])


def _options(
    name: str, run_paths: RunPaths, ports: tuple[int, ...], address: str, values: Mapping[str, str]
) -> tuple[str, ...]:
    port = ("--port", str(ports[0])) if ports else ("--socket", str(socket_path(address)))
    metrics = {each.purpose: number for each, number in zip(PORTS[name], ports, strict=bool(ports))}.get(METRICS)
    filled = {
        "state": values.get("GATEWAY_STATE") or run_paths.run_dir / name,
        "exports": run_paths.exports,
        "deployments": run_paths.deployments,
        "run_dir": run_paths.run_dir / name,
        "metrics_port": metrics,
    }
    return (*port, *(word.format_map(filled) for word in OPTIONS[name]))


def _address(name: str, ports: tuple[int, ...], values: Mapping[str, str]) -> str:
    """Return where others will look for the service, having checked that it will be there."""
    variable = f"{name.upper()}_ADDR"
    found = read_variable(values, variable, address)
    if ports and found.rpartition(":")[2] != str(ports[0]):
        raise SettingsError(f"{variable} is {found!r} and {name.upper()}_PORT is {ports[0]}: set both to the same port")
    return found


def _check_distinct(services: Mapping[str, Service]) -> None:
    owners: dict[int, str] = {}
    for service in services.values():
        for variable, port in service.port_variables():
            if port in owners:
                raise SettingsError(f"{variable} and {owners[port]} are both {port}: give each its own port")
            owners[port] = variable
