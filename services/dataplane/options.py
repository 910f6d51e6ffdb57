"""What every server of the data plane is told: where it listens, what serves there, in how many processes."""

import argparse
from collections.abc import Sequence
from typing import Any

from servepath.cli.arguments import whole
from servepath.settings import SettingsParser, one_of, port
from services.dataplane.listeners import DEFAULT_LISTENER, LISTENERS

LOOPBACK = "127.0.0.1"
MAX_WORKERS = 64
# Whether a call may change what is served.
MODEL_LOADING = OFF, ON = ("off", "on")


def read_server_settings(parser: SettingsParser, prefix: str, argv: Sequence[str] | None) -> dict[str, Any]:
    """Add these options to those of a server, and return all settings. prefix: of its port variables.

    Raises SettingsError for a variable; exits with code 2 for an option.
    """
    setting = parser.setting
    setting("host", "address to listen on", default=LOOPBACK)
    setting("port", "gRPC port, 0 for a free one", variable=f"{prefix}_PORT", kind=port)
    setting("metrics_host", f"address of the Prometheus port (default: {LOOPBACK}, or what --host says)", default=None)
    setting("metrics_port", "Prometheus port, 0 for a free one", variable=f"{prefix}_METRICS_PORT", kind=port)
    setting("workers", "processes on the port", kind=whole(1, MAX_WORKERS), default=1)
    setting(
        "front",
        f"what serves gRPC: {' or '.join(LISTENERS)}",
        variable="FRONT",
        kind=one_of(LISTENERS),
        default=DEFAULT_LISTENER,
    )
    setting(
        "model_loading",
        "on: anyone who can call may have models loaded (RepositoryModelLoad); off without it",
        variable=f"{prefix}_MODEL_LOADING",
        kind=one_of(MODEL_LOADING),
        default=OFF,
    )
    parser.add_argument("--worker-of", type=int, help=argparse.SUPPRESS)
    values = parser.read_settings(argv)
    return values | {"metrics_host": values["metrics_host"] or values["host"]}
