"""The settings of tf_svc: command line, then environment, then .env; read once, here only."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values

from servepath.cli.arguments import Parser

Engine = Literal["auto", "embedded", "tensorflow_model_server"]
ENGINES: tuple[Engine, ...] = ("auto", "embedded", "tensorflow_model_server")
MAX_PORT = 65535
# tensorflow_model_server has a thread for each call.
MAX_CALLS = 4096
# sockaddr_un, linux/un.h: 108 bytes with the final zero.
MAX_SOCKET_BYTES = 107


class ConfigError(Exception):
    """A setting or file that cannot be used; the text names it and the fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What tf_svc runs with.

    models: exports folder. config: a models.config to use as it is. binary: path of tensorflow_model_server, "" to look
    on PATH. socket: a Unix socket to listen on instead of host and port. threads: of the embedded server. max_calls: in
    flight, more are refused. grace_s: for calls in flight at the end.
    """

    models: Path
    config: Path | None
    run_folder: Path
    engine: Engine
    binary: str
    host: str
    port: int
    socket: Path | None
    threads: int
    max_calls: int
    max_message_bytes: int
    poll_s: float
    grace_s: float


def read_settings(arguments: Sequence[str]) -> Settings:
    """Read the process's settings. Exits with code 2 and one line that names the option or variable at fault."""
    environment = {**dotenv_values(".env"), **os.environ}
    return parse(arguments, {name: value for name, value in environment.items() if value})


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up messages out of the log, unless the user chose a level. Call it before the import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings; an option wins over its variable. Exits with code 2."""
    parser = Parser(
        prog="python -m services.tf_svc", description="Serve SavedModels over TensorFlow Serving's gRPC protocol."
    )
    parser.add_argument("--models", type=Path, default=Path("artifacts/exports"), help="exports folder (%(default)s)")
    parser.add_argument("--config", type=Path, help="models.config to use instead of one made from --models")
    parser.add_argument("--port", type=_port, help="gRPC port, 0 for any free one (TF_SVC_PORT, 8500)")
    parser.add_argument("--host", help="address to listen on (TF_SVC_HOST, 127.0.0.1)")
    parser.add_argument(
        "--socket", type=_socket, help="Unix socket to listen on instead, and on no port (TF_SVC_SOCKET, none)"
    )
    parser.add_argument("--run-dir", type=Path, help="for generated files (TF_SVC_RUN_DIR, .run/tf_svc)")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="which server to run (%(default)s)")
    given = parser.parse_args(arguments)
    variables = _Variables(parser, environment)
    return Settings(
        models=given.models,
        config=given.config,
        run_folder=given.run_dir or Path(environment.get("TF_SVC_RUN_DIR", ".run/tf_svc")),
        engine=given.engine,
        binary=environment.get("TENSORFLOW_MODEL_SERVER", ""),
        host=given.host or environment.get("TF_SVC_HOST", "127.0.0.1"),
        port=variables.number("TF_SVC_PORT", 8500, 0, MAX_PORT) if given.port is None else given.port,
        socket=given.socket or (variables.socket("TF_SVC_SOCKET") if given.port is None else None),
        threads=variables.number("TF_SVC_THREADS", 8, 1, 1024),
        max_calls=variables.number("TF_SVC_MAX_CALLS", 300, 1, MAX_CALLS),
        max_message_bytes=variables.number("TF_SVC_MAX_MESSAGE_BYTES", 64 * 2**20, 1024, 2**31 - 1),
        poll_s=1.0,
        grace_s=float(variables.number("TF_SVC_GRACE_S", 25, 0, 3600)),
    )


class _Variables:
    """Environment variables read with their bounds."""

    def __init__(self, parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._environment = environment

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self._environment.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            self._parser.error(f"{name}={text!r} is not a whole number from {least} to {most}")
        return int(text)

    def socket(self, name: str) -> Path | None:
        text = self._environment.get(name)
        try:
            return _socket(text) if text else None
        except argparse.ArgumentTypeError as error:
            self._parser.error(f"{name}: {error}")


def _socket(text: str) -> Path:
    path = Path(text).absolute()
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise argparse.ArgumentTypeError(
            f"{str(path)!r} is longer than the {MAX_SOCKET_BYTES} bytes that a socket's path may have"
        )
    return path


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {MAX_PORT}")
    return int(text)
