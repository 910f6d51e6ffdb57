"""The gateway's settings. Nothing else here reads the environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from servepath.protocols.deployments import read_deployments
from servepath.protocols.stacks import STACKS, service_files
from servepath.settings import SettingsParser, address, read_variable, variables
from services.dataplane.listeners import DEFAULT_LISTENER
from services.dataplane.options import read_server_settings


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the gateway is told from outside.

    addresses: stack -> HOST:PORT or unix:PATH. files: where services keep what their callers need, by
    variable. front: a key of LISTENERS. workers: processes on one port. worker_of: of one of them, its socket to the
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
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    parser = SettingsParser(
        "python -m services.gateway", "Answer predictions on every deployment path through one gRPC endpoint."
    )
    parser.setting("deployments", "the list of paths", kind=Path, default=Path("deployments.toml"))
    parser.setting("exports", "exported artifacts", kind=Path, default=Path("artifacts/exports"))
    text = "offer gRPC reflection of servepath.v1 (publishes the API)"
    parser.add_argument("--reflection", action="store_true", help=text)
    values = read_server_settings(parser, "GATEWAY", argv)
    found = variables()
    addresses = {stack.name: read_variable(found, stack.address_variable, address) for stack in STACKS.values()}
    return Settings(**values, addresses=addresses, files=service_files(found))


def with_external(settings: Settings) -> Settings:
    """Return the settings with the addresses of the external servers in deployments.toml.

    Raises SettingsError for a variable, DeploymentsError for that file.
    """
    found, stacks = variables(), read_deployments(settings.deployments).stacks
    named = {name: stack.address_variable for name, stack in stacks.items() if stack.external}
    addresses = {name: read_variable(found, variable, address) for name, variable in named.items()}
    return replace(settings, addresses={**settings.addresses, **addresses})
