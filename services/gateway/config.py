"""The gateway's settings: command line over environment over .env. Nothing else here reads the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from servepath.protocols import addresses
from servepath.protocols.stacks import STACKS, service_files
from services.dataplane.listeners import DEFAULT_LISTENER, LISTENERS

MAX_WORKERS = 64


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the gateway is told from outside.

    addresses: stack -> HOST:PORT or unix:PATH. files: where services keep what their callers need, by
    variable. front: a key of FRONTS. workers: processes on one port. worker_of: of one of them, its socket to the
    first.
    """

    deployments: Path
    exports: Path
    host: str
    port: int
    metrics_port: int
    reflection: bool
    addresses: Mapping[str, str]
    files: Mapping[str, Path]
    front: str = DEFAULT_LISTENER
    workers: int = 1
    worker_of: int | None = None
    metrics_host: str = "127.0.0.1"


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError; argparse exits with 2 on a bad command line."""
    environment = {key: value for key, value in dotenv_values(".env").items() if value} | dict(os.environ)
    options = _parser().parse_args(argv)
    return Settings(
        deployments=options.deployments,
        exports=options.exports,
        host=options.host,
        port=_port(options.port, "GATEWAY_PORT", environment),
        metrics_port=_port(options.metrics_port, "GATEWAY_METRICS_PORT", environment),
        reflection=options.reflection,
        addresses={stack.name: _address(stack.address_variable, environment) for stack in STACKS.values()},
        files=service_files(environment),
        front=_front(options.front or environment.get("FRONT") or DEFAULT_LISTENER),
        workers=options.workers,
        worker_of=options.worker_of,
        metrics_host=options.metrics_host or options.host,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.gateway",
        description="Answer predictions on every deployment path through one gRPC endpoint.",
    )
    add = parser.add_argument
    add("--deployments", type=Path, default=Path("deployments.toml"), metavar="FILE", help="the list of paths")
    add("--exports", type=Path, default=Path("artifacts/exports"), metavar="DIR", help="exported artifacts")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=int, help="gRPC port, 0 for a free one (default: GATEWAY_PORT)")
    add("--metrics-host", help="address of the Prometheus port (default: 127.0.0.1, or what --host says)")
    add("--metrics-port", type=int, help="Prometheus port, 0 for a free one (default: GATEWAY_METRICS_PORT)")
    add("--workers", type=_workers, default=1, metavar="N", help="processes on the port (default: %(default)s)")
    add("--worker-of", type=int, help=argparse.SUPPRESS)
    add("--front", choices=tuple(LISTENERS), help=f"what serves gRPC (default: FRONT, else {DEFAULT_LISTENER})")
    add("--reflection", action="store_true", help="offer gRPC reflection of servepath.v1 (publishes the API)")
    return parser


def _port(option: int | None, variable: str, environment: Mapping[str, str]) -> int:
    text = environment.get(variable, "") if option is None else str(option)
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the largest port
        raise SettingsError(f"{variable} must be a port from 0 to 65535, got {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MAX_WORKERS} is needed, got {text!r}")
    return int(text)


def _front(name: str) -> str:
    if name not in LISTENERS:
        raise SettingsError(f"FRONT must be one of {', '.join(LISTENERS)}, got {name!r}")
    return name


def _address(variable: str, environment: Mapping[str, str]) -> str:
    address = environment.get(variable, "")
    if not addresses.is_address(address):
        raise SettingsError(f"{variable} must be {addresses.EXPECTED}, got {address!r}")
    return address
