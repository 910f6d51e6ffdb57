"""The settings of tf_svc. Nothing else here reads the environment."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from servepath.cli.arguments import whole
from servepath.protocols.stacks import TF_VERSION
from servepath.protocols.tuned import VARIABLE
from servepath.settings import SettingsParser, one_of, port

STACK = "tfserving"
Engine = Literal["auto", "embedded", "tensorflow_model_server"]
ENGINES: tuple[Engine, ...] = ("auto", "embedded", "tensorflow_model_server")
# tensorflow_model_server has a thread for each call.
MAX_CALLS = 4096
# sockaddr_un, linux/un.h: 108 bytes with the final zero.
MAX_SOCKET_BYTES = 107


@dataclass(frozen=True, slots=True)
class Settings:
    """What tf_svc runs with.

    models: exports folder. config: a models.config to use as it is. binary: path of tensorflow_model_server, "" to look
    on PATH. socket: a Unix socket to listen on instead of host and port. threads: of the embedded server. max_calls: in
    flight, more are refused. version_file: where callers find the program's version. grace_s: for calls in flight at
    the end. tuned: the folder of tuned settings.
    """

    models: Path
    config: Path | None
    run_dir: Path
    engine: Engine
    binary: str
    host: str
    port: int
    socket: Path | None
    threads: int
    max_calls: int
    max_message_bytes: int
    version_file: Path
    poll_s: float
    grace_s: float
    tuned: Path | None = None


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    parser = SettingsParser("python -m services.tf_svc", "Serve SavedModels over TensorFlow Serving's gRPC protocol.")
    setting, variable = parser.setting, parser.variable
    setting("models", "exports folder", kind=Path, default=Path("artifacts/exports"))
    setting("config", "models.config to use instead of one made from --models", kind=Path, default=None)
    setting("port", "gRPC port, 0 for any free one", variable="TF_SVC_PORT", kind=port, default=8500)
    setting("host", "address to listen on", variable="TF_SVC_HOST", default="127.0.0.1")
    text = "Unix socket to listen on instead, and on no port"
    setting("socket", text, variable="TF_SVC_SOCKET", kind=socket, default=None)
    setting("run_dir", "for generated files", variable="TF_SVC_RUN_DIR", kind=Path, default=Path(".run/tf_svc"))
    setting("engine", "auto, embedded or tensorflow_model_server", kind=one_of(ENGINES), default="auto")
    variable("binary", "TENSORFLOW_MODEL_SERVER", default="")
    variable("threads", "TF_SVC_THREADS", kind=whole(1, 1024), default=8)
    variable("max_calls", "TF_SVC_MAX_CALLS", kind=whole(1, MAX_CALLS), default=300)
    variable("max_message_bytes", "TF_SVC_MAX_MESSAGE_BYTES", kind=whole(1024, 2**31 - 1), default=64 * 2**20)
    variable("version_file", TF_VERSION.variable, kind=Path, default=None)
    variable("grace_s", "TF_SVC_GRACE_S", kind=whole(0, 3600), default=25)
    variable("tuned", VARIABLE, kind=Path, default=None)
    values = parser.read_settings(argv)
    if "port" in parser.given and "socket" not in parser.given:
        values["socket"] = None
    values["version_file"] = values["version_file"] or values["run_dir"] / TF_VERSION.name
    return Settings(**values, poll_s=1.0)


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up messages out of the log, unless the user chose a level. Call it before the import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def socket(text: str) -> Path:
    """Read the path of a Unix socket."""
    path = Path(text).absolute()
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise argparse.ArgumentTypeError(
            f"{str(path)!r} is longer than the {MAX_SOCKET_BYTES} bytes that a socket's path may have"
        )
    return path
