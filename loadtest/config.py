"""Where the servers are: .env, overruled by the environment; the only place of the load test that reads either."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dotenv import dotenv_values

from services.wire.stacks import STACKS
from services.wire.token import DEFAULT_FILE, FILE_VARIABLE

GATEWAY_VARIABLE = "GATEWAY_ADDR"


class ConfigError(Exception):
    """A setting or a file that the load test needs is missing or unusable; the text names it and the mend."""


@dataclass(frozen=True, slots=True)
class Settings:
    """gateway and stacks: HOST:PORT, stacks by stack name. torch_token: the file with TorchServe's current key.

    exports: the folder of artefacts that a side serves, where that is not the load test's own (EXPORTS in its file).
    """

    gateway: str
    stacks: Mapping[str, str]
    torch_token: Path
    exports: Path | None = None


def read_settings(
    env_file: Path, environment: Mapping[str, str] = os.environ, *, side_file: Path | None = None
) -> Settings:
    """Read addresses from `env_file` (it may be missing) and `environment`; what `side_file` says overrules both.

    Raises ConfigError naming the variable, or a side's file that is missing.
    """
    if side_file is not None and not side_file.is_file():
        raise ConfigError(f"{side_file} is missing; it must hold the addresses of a side, as .env does")
    side = dotenv_values(side_file) if side_file else {}
    values = {**dotenv_values(env_file), **environment, **side}
    exports = side.get("EXPORTS")
    return Settings(
        gateway=_address(values, GATEWAY_VARIABLE),
        stacks=MappingProxyType({name: _address(values, stack.address_variable) for name, stack in STACKS.items()}),
        torch_token=Path(values.get(FILE_VARIABLE) or DEFAULT_FILE),
        exports=Path(exports) if exports else None,
    )


def inherited(environment: Mapping[str, str] = os.environ, *, without: tuple[str, ...]) -> dict[str, str]:
    """Give the environment for a child, without the variables whose names begin with one of `without`."""
    return {name: value for name, value in environment.items() if not name.startswith(without)}


def _address(values: Mapping[str, str | None], variable: str) -> str:
    value = values.get(variable) or ""
    host, _, port = value.rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"{variable} must be HOST:PORT and is {value!r}; set it in .env or in the environment")
    return value
