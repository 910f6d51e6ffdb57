"""onnx_svc's settings: command line over environment over .env. Nothing else here reads the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from services.dataplane.listeners import DEFAULT_LISTENER, LISTENERS

DEVICES = ("auto", "cpu", "cuda")
MAX_WORKERS = 64


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it."""


# No slots: the command line takes its defaults from the class.
@dataclass(frozen=True)
class Settings:
    """Everything that onnx_svc is told from outside.

    port, metrics_port: 0 takes a free one. threads: calls of one model version that compute at once; max_queue: calls
    that may wait for one of them. watch_s: seconds between two looks at each model's current version. front: a key of
    FRONTS. workers: processes on one port. worker_of: of one of them, its socket to the first.
    """

    models: Path
    port: int
    metrics_port: int
    device: str = "auto"
    host: str = "127.0.0.1"
    metrics_host: str = "127.0.0.1"
    threads: int = 2
    max_queue: int = 1024
    max_message_bytes: int = 64 * 2**20
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0
    drain_s: float = 25.0
    watch_s: float = 1.0
    front: str = DEFAULT_LISTENER
    workers: int = 1
    worker_of: int | None = None


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError; argparse exits with 2 on a bad command line."""
    environment = {key: value for key, value in dotenv_values(".env").items() if value} | dict(os.environ)
    options = _parser().parse_args(argv)
    return Settings(
        models=options.models,
        port=_port(options.port, "ONNX_SVC_PORT", environment),
        metrics_port=_port(options.metrics_port, "ONNX_SVC_METRICS_PORT", environment),
        device=options.device,
        host=options.host,
        metrics_host=options.metrics_host or options.host,
        threads=options.threads,
        max_queue=options.max_queue,
        default_deadline_s=options.default_deadline_s,
        drain_s=options.drain_s,
        front=_front(options.front or environment.get("FRONT") or DEFAULT_LISTENER),
        workers=options.workers,
        worker_of=options.worker_of,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.onnx_svc",
        description="Serve exported ONNX models over gRPC by the Open Inference Protocol.",
    )
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("--models", type=Path, default=Path("artifacts/exports"), metavar="DIR", help=f"exported artifacts {default}")
    add("--host", default=Settings.host, help=f"address to listen on {default}, this machine only")
    add("--port", type=_port_number, help="gRPC port, 0 for a free one (default: ONNX_SVC_PORT)")
    add("--metrics-host", help="address of the Prometheus port (default: 127.0.0.1, or what --host says)")
    add("--metrics-port", type=_port_number, help="Prometheus port, 0 for a free one (default: ONNX_SVC_METRICS_PORT)")
    add("--workers", type=_workers, default=1, metavar="N", help="processes on the port (default: %(default)s)")
    add("--worker-of", type=int, help=argparse.SUPPRESS)
    add("--front", choices=tuple(LISTENERS), help=f"what serves gRPC (default: FRONT, else {DEFAULT_LISTENER})")
    add("--device", choices=DEVICES, default=Settings.device, help=f"auto uses the GPU if it works {default}")
    add("--threads", type=_whole, default=Settings.threads, help=f"calls of a model that compute in parallel {default}")
    add("--max-queue", type=_whole, default=Settings.max_queue, help=f"calls of a model that may wait {default}")
    add(
        "--default-deadline-s",
        type=_seconds,
        default=Settings.default_deadline_s,
        help=f"deadline in seconds of calls without one {default}",
    )
    add(
        "--drain-s",
        type=_seconds,
        default=Settings.drain_s,
        help=f"seconds for calls in flight when stopping {default}",
    )
    return parser


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MAX_WORKERS} is needed, got {text!r}")
    return int(text)


def _front(name: str) -> str:
    if name not in LISTENERS:
        raise SettingsError(f"FRONT must be one of {', '.join(LISTENERS)}, got {name!r}")
    return name


def _port(option: int | None, variable: str, environment: Mapping[str, str]) -> int:
    if option is not None:
        return option
    try:
        return _port_number(environment.get(variable, ""))
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{variable}: {error}; set it in .env or in the environment") from None


def _port_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:  # noqa: PLR2004 - the largest port
        raise argparse.ArgumentTypeError(f"a port is a whole number from 0 to 65535, got {text!r}")
    return int(text)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 3600:  # noqa: PLR2004 - an hour; also keeps inf and nan out
        raise argparse.ArgumentTypeError(f"seconds above 0 and up to 3600 are needed, got {text!r}")
    return value
