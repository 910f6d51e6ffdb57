"""TorchServe, supervised: `python -m services.torch_svc --models artifacts/exports --port 7070`.

Runs in the foreground until SIGTERM or Ctrl-C. Exit code 0: stopped in order; 1: cannot start, or TorchServe ended by
itself; 2: bad values.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servepath.artifacts.manifest import ArtifactError
from services.dataplane.lifecycle import log_to_stderr
from services.torch_svc import supervisor
from services.torch_svc.config import (
    MAX_PORT,
    ConfigError,
    Settings,
    read_environment,
    read_ports,
    read_token_file,
)
from services.torch_svc.ports import PortBusyError
from services.torch_svc.run_dir import RunDirError
from services.torch_svc.server import ServerError

MAX_TOKEN_MINUTES = 7 * 24 * 60


def main() -> int:
    """Read the options, run, and return the exit code."""
    parser = _parser()
    try:
        settings = _settings(Options(**vars(parser.parse_args())))
    except ConfigError as error:
        parser.error(str(error))
    log_to_stderr()
    try:
        supervisor.run(settings)
    except (ServerError, ArtifactError, PortBusyError, RunDirError, OSError) as error:
        print(f"torch_svc: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.torch_svc",
        description="Serve every exported .mar on TorchServe 0.12. Ports come from the environment or .env: "
        "TORCH_SVC_PORT, and TORCH_SVC_{GRPC_MANAGEMENT,HTTP,MANAGEMENT,METRICS}_PORT, which stay on loopback. "
        "Each archive is checked against its manifest: that proves integrity, not authorship, and an archive's "
        "handler is code that runs here.",
    )
    add = parser.add_argument
    add("--models", type=Path, default=Path("artifacts/exports"), help="exports folder (%(default)s)")
    add("--port", type=_whole(1, MAX_PORT), help="gRPC inference port (TORCH_SVC_PORT)")
    add("--host", default="127.0.0.1", help="IPv4 address that gRPC inference is bound to (%(default)s)")
    add("--run-dir", type=Path, default=Path(".run/torch_svc"), help="working folder, one per instance (%(default)s)")
    add("--token-file", type=Path, help="where the inference key is published (TORCH_SVC_TOKEN_FILE, RUN_DIR/token)")
    add(
        "--token-minutes",
        type=_whole(1, MAX_TOKEN_MINUTES),
        default=60,
        help="minutes that a key is valid (%(default)s)",
    )
    add("--token-renew-s", type=_whole(1, MAX_TOKEN_MINUTES * 60), help="seconds between renewals (half its life)")
    add(
        "--without-tokens",
        action="store_true",
        help="disable token authorization: only where nobody but the gateway can connect",
    )
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line of `python -m services.torch_svc`."""

    models: Path
    port: int | None
    host: str
    run_dir: Path
    token_file: Path | None
    token_minutes: int
    token_renew_s: int | None
    without_tokens: bool


def _settings(options: Options) -> Settings:
    life_s = options.token_minutes * 60
    renew_s = options.token_renew_s or life_s / 2
    if renew_s >= life_s:
        raise ConfigError(f"--token-renew-s must be less than the key's lifetime of {life_s} s, got {renew_s}")
    environment = read_environment(Path())
    run_dir = options.run_dir.absolute()
    return Settings(
        models=options.models,
        host=options.host,
        ports=read_ports(environment, options.port),
        run_dir=run_dir,
        token_file=options.token_file.absolute() if options.token_file else read_token_file(environment, run_dir),
        token_minutes=options.token_minutes,
        token_renew_s=renew_s,
        environment=environment,
        tokens=not options.without_tokens,
    )


if __name__ == "__main__":
    sys.exit(main())
