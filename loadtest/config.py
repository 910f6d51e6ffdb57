"""Where the servers are: --targets, or .env overridden by the environment; nothing else of the load test reads it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from servepath.protocols.addresses import EXPECTED, is_address
from servepath.protocols.deployments import Deployments
from servepath.protocols.stacks import STACKS, service_files
from servepath.settings import SettingsError, address, read_variable, variables

GATEWAY = "gateway"
GATEWAY_VARIABLE = "GATEWAY_ADDR"


@dataclass(frozen=True, slots=True)
class Settings:
    """addresses: HOST:PORT or unix:PATH of the gateway and of each stack, by name.

    files: where services keep what their callers need, by variable.
    local: the addresses are this machine's own, so that what listens there is the server and no forwarder to it.
    exports: the folder of artifacts that a side serves, where that is not the load test's own (EXPORTS in its file).
    deployments: names the external servers, if there are any.
    """

    addresses: Mapping[str, str]
    files: Mapping[str, Path]
    local: bool = True
    exports: Path | None = None
    deployments: Deployments | None = None


def read_settings(
    env_file: Path,
    environment: Mapping[str, str] = os.environ,
    targets: Mapping[str, str] | None = None,
    *,
    side_file: Path | None = None,
    deployments: Deployments | None = None,
) -> Settings:
    """Read `env_file` (it may be missing) and `environment`; what `side_file` says overrules both.

    `targets`, if there are any, are all addresses there are. Raises SettingsError naming the variable that is missing
    or wrong, or a side's file that is missing.
    """
    if side_file is not None and not side_file.is_file():
        raise SettingsError(f"{side_file} is missing; it must hold the addresses of a side, as .env does")
    side = variables(side_file, {}) if side_file else {}
    values = variables(env_file, environment) | side
    servers = deployments.servers if deployments else STACKS
    names = {GATEWAY: GATEWAY_VARIABLE} | {name: stack.address_variable for name, stack in servers.items()}
    addresses = targets or {name: read_variable(values, variable, address) for name, variable in names.items()}
    exports = side.get("EXPORTS")
    return Settings(
        MappingProxyType(dict(addresses)),
        service_files(values),
        not targets,
        Path(exports) if exports else None,
        deployments,
    )


def parse_targets(text: str) -> dict[str, str]:
    """Read NAME=HOST:PORT,... as --targets gives it. Raises ValueError naming the part that is wrong.

    Which names there are, deployments.toml says: see check_targets.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, address = part.strip().partition("=")
        if name in found:
            raise ValueError(f"{name} is given twice")
        if not (name and is_address(address)):
            raise ValueError(f"{part!r} is not {name or 'NAME'}={EXPECTED}")
        found[name] = address
    return found


def check_targets(targets: Iterable[str], stacks: Iterable[str]) -> None:
    """Raise ValueError for a name that is neither the gateway's nor a stack's."""
    known = (GATEWAY, *stacks)
    for name in targets:
        if name not in known:
            raise ValueError(f"{name!r} names none of {', '.join(known)}")


def inherited(environment: Mapping[str, str] = os.environ, *, without: tuple[str, ...]) -> dict[str, str]:
    """Return the environment for a child, without the variables whose names begin with one of `without`."""
    return {name: value for name, value in environment.items() if not name.startswith(without)}
