"""What torch_svc needs to know: the environment, .env and command-line options in one frozen Settings.

The only place of this service that reads the environment.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dotenv import dotenv_values

from servepath.protocols.stacks import STACKS, TORCH_TOKEN, Port

MAX_PORT = 65535
# Set for us by nobody, but read by TorchServe in place of our settings.
FOREIGN_PREFIXES = ("TS_", "LOG_LOCATION", "METRICS_LOCATION")


class ConfigError(Exception):
    """A setting has no or an impossible value; the text names it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """TorchServe's five ports; all but `inference` are bound to loopback only."""

    inference: int
    grpc_management: int
    http: int
    management: int
    metrics: int


# By field of Ports.
PORTS: Mapping[str, Port] = {
    field.name: port for field, port in zip(fields(Ports), STACKS["torchserve"].ports, strict=True)
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that one start depends on.

    models: the exports folder. host: bind address of gRPC inference. run_dir: ours alone, absolute. token_file: where
    the inference key is published. token_minutes: life of a key. token_renew_s: seconds between renewals.
    environment: for the JVM. tokens: whether callers must show a key.
    """

    models: Path
    host: str
    ports: Ports
    run_dir: Path
    token_file: Path
    token_minutes: int
    token_renew_s: float
    environment: Mapping[str, str]
    tokens: bool = True


def read_environment(folder: Path) -> dict[str, str]:
    """Return the variables of `folder`/.env, overridden by this process's environment."""
    defaults = {name: value for name, value in dotenv_values(folder / ".env").items() if value is not None}
    return defaults | os.environ


def read_ports(environment: Mapping[str, str], inference: int | None = None) -> Ports:
    """Return the five ports; `inference` wins over its variable. Raises ConfigError naming the variable."""
    chosen = {field: _port(environment, port.variable) for field, port in PORTS.items() if field != "inference"}
    return Ports(inference=inference or _port(environment, PORTS["inference"].variable), **chosen)


def read_token_file(environment: Mapping[str, str], run_dir: Path) -> Path:
    """Return where the key is published: the variable's value, else `run_dir`/token."""
    return Path(environment.get(TORCH_TOKEN.variable) or run_dir / TORCH_TOKEN.name).absolute()


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables that TorchServe would read in place of our settings."""
    return {name: value for name, value in environment.items() if not name.startswith(FOREIGN_PREFIXES)}


def explain_port(ports: Ports, number: int) -> str:
    """Return what uses a port and the variable that sets it, such as "8081 (HTTP management; TORCH_SVC_...)"."""
    field = next(field for field in PORTS if getattr(ports, field) == number)
    port = PORTS[field]
    return f"{number} ({port.purpose}; set {port.variable} to change it)"


def numbers(ports: Ports) -> Sequence[int]:
    """Return the five port numbers, inference first."""
    return [getattr(ports, field) for field in PORTS]


def _port(environment: Mapping[str, str], variable: str) -> int:
    text = environment.get(variable, "")
    if not text:
        raise ConfigError(f"{variable} is not set; the defaults are in .env, run from the repository's root")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT):
        raise ConfigError(f"{variable} must be a port from 1 to {MAX_PORT}, got {text!r}")
    return int(text)
