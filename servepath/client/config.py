"""Where the gateway is: .env, overruled by the environment; the only place of the client that reads either."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from servepath.protocols.addresses import is_address

VARIABLE = "GATEWAY_ADDR"


def gateway_address(env_file: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Return the gateway's HOST:PORT. Raises ValueError naming the variable; `env_file` may be missing."""
    address = {**dotenv_values(env_file), **environment}.get(VARIABLE) or ""
    if not is_address(address):
        raise ValueError(f"{VARIABLE} must be HOST:PORT and is {address!r}; give --addr, or set it in .env")
    return address
