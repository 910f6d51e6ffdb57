"""The gateway's settings. Nothing else here reads the environment."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import STACKS, Stack, service_files
from servepath.protocols.tuned import VARIABLE
from servepath.settings import SettingsParser, address_list, read_variable, variables
from services.dataplane.listeners import DEFAULT_LISTENER
from services.dataplane.options import OFF, read_server_settings

OTEL = "OTEL_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the gateway is told from outside.

    addresses: stack -> HOST:PORT or unix:PATH, or several with commas between them: its replicas. files: where services
    keep what their callers need, by variable. front: a key of LISTENERS. workers: processes on one port. worker_of: of
    one of them, its socket to the first. state: the folder of what has to survive a restart. otel: the variables of
    OpenTelemetry. tuned: of tuned settings. model_loading: ON lets callers have servers load models.
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
    state: Path = Path(".run/gateway")
    otel: Mapping[str, str] = field(default_factory=dict)
    tuned: Path | None = None
    model_loading: str = OFF


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    parser = SettingsParser(
        "python -m services.gateway", "Answer predictions on every deployment path through one gRPC endpoint."
    )
    parser.setting("deployments", "the list of paths", kind=Path, default=Path("deployments.toml"))
    parser.setting("exports", "exported artifacts", kind=Path, default=Path("artifacts/exports"))
    about = "folder of what promoted shadows keep for a restart"
    parser.setting("state", about, variable="GATEWAY_STATE", kind=Path, default=Path(".run/gateway"))
    parser.variable("tuned", VARIABLE, kind=Path, default=None)
    text = "offer gRPC reflection of servepath.v1 (publishes the API)"
    parser.add_argument("--reflection", action="store_true", help=text)
    values = read_server_settings(parser, "GATEWAY", argv)
    found = variables()
    otel = {name: value for name, value in found.items() if name.startswith(OTEL)}
    return Settings(**values, addresses=_addresses(found, STACKS.values()), files=service_files(found), otel=otel)


def share_otel(otel: Mapping[str, str]) -> None:
    """Put the variables of OpenTelemetry into the environment, where its SDK reads them: .env may have some.

    An empty variable is one that is not set; the SDK would take it for a value.
    """
    for name in [name for name in os.environ if name.startswith(OTEL)]:
        del os.environ[name]
    os.environ.update(otel)


def with_addresses(settings: Settings) -> Settings:
    """Return the settings with the addresses that there are now, also of the external servers in deployments.toml.

    Raises SettingsError for a variable, DeploymentsError for that file.
    """
    servers = read_deployments(settings.deployments).servers
    return replace(settings, addresses=_addresses(variables(), servers.values()))


def _addresses(found: Mapping[str, str], stacks: Iterable[Stack]) -> dict[str, str]:
    return {stack.name: read_variable(found, stack.address_variable, address_list) for stack in stacks}
