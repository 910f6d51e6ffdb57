"""The real tensorflow_model_server: found, its command line, and a child process that is watched and ended.

It has no option to listen on loopback only (0.0.0.0, or a Unix socket), does not drain on SIGTERM (it ends in
milliseconds), and waits for ever with its port closed when a model has no version: so the folders are checked before.

No package index carries the program: tests run this code with a stand-in that records its arguments
(tests/integration/services/tf_svc/test_process.py). What the program itself does was observed with 2.20.0 (ADR 3).
"""

import dataclasses
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from servepath.artifacts.atomic import write_file
from servepath.cli import children, die_with_parent
from servepath.cli.cores import usable_cores
from servepath.protocols import tuned
from servepath.protocols.identity import UNKNOWN
from servepath.settings import SettingsError
from services.tf_svc.address import refuse_taken
from services.tf_svc.config import STACK, Settings

log = logging.getLogger(__name__)

NAME = "tensorflow_model_server"
VERSION_TIMEOUT_S = 20


def find(settings: Settings) -> str | None:
    """Return the program's path, None to run the embedded server. Raises SettingsError for one that is missing."""
    if settings.engine == "embedded":
        return None
    path = shutil.which(settings.binary or NAME)
    if path is None and settings.binary:
        raise SettingsError(f"TENSORFLOW_MODEL_SERVER={settings.binary} is not a program; correct or unset it")
    if path is None and settings.engine == NAME:
        raise SettingsError(f"{NAME} is not on PATH; install it, set TENSORFLOW_MODEL_SERVER, or use --engine embedded")
    return path


def command(program: str, settings: Settings, config: Path) -> list[str]:
    """Return its command line. It ignores options that it does not know, so each one here was read in its main.cc.

    No batching: the gateway batches, and here one caller's bad request would fail the others of its batch (ADR 3).
    Raises TunedError.
    """
    listen = ["--port=0", f"--grpc_socket_path={settings.socket}"] if settings.socket else [f"--port={settings.port}"]
    return [
        program,
        *listen,
        f"--model_config_file={config.resolve()}",
        # Large operations share one pool of all cores (ADR 29); by itself it knows no quota.
        f"--tensorflow_intra_op_parallelism={tuned.largest(settings.tuned, STACK, 'engine_threads', usable_cores())}",
        "--rest_api_port=0",
        # A label of a version that is being loaded is an error otherwise, so that no config with labels could start.
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=1",
        # By default 4 x CPUs, and the last one refuses.
        f"--grpc_max_threads={settings.max_calls + 1}",
        # Another server on the port must be an error, not a silent share of the calls.
        "--grpc_channel_arguments=grpc.so_reuseport=0",
        # By default one broken version blocks every other update for 5 minutes.
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
        "--tensorflow_inter_op_parallelism=1",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
    ]


def version_of(program: str) -> str:
    """Return the version that the program prints, or "version not reported"."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    first = done.stdout.strip().partition("\n")[0]
    return first.rpartition(" ")[2] or UNKNOWN


def check_address(settings: Settings) -> None:
    """Find a taken port before the program does: it crashes. Raises PortBusyError or SettingsError."""
    if settings.socket is None and settings.port == 0:
        raise SettingsError(f"{NAME} cannot choose a free port; give --port a number, or --socket a path")
    # It listens on every address, so one of them held by another program is one too many.
    refuse_taken(dataclasses.replace(settings, host="0.0.0.0"))  # noqa: S104 - where it will listen
    if settings.socket is None:
        log.warning("%s listens on every interface: firewall port %d, or give it --socket", NAME, settings.port)


def run(argv: Sequence[str], settings: Settings, stopped: threading.Event, each_poll: Callable[[], None]) -> int:
    """Run the program until it ends or `stopped` is set; return the exit code, 0 where it was told to stop.

    The child is killed when this process dies. each_poll: called once a poll while it runs, on a thread of its own:
    hashing a new version takes as long as it is large.
    """
    version = version_of(argv[0])
    log.info("%s %s, %s", NAME, version, settings.socket or f"port {settings.port}")
    child = subprocess.Popen(
        [sys.executable, "-IS", die_with_parent.__file__, *argv],
        # float32 is float32, as on the other stacks: TensorFlow computes it in TF32 on GPUs unless told not to.
        env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0", die_with_parent.PARENT: str(os.getpid())},
    )
    try:
        write_file(settings.version_file, f"{version}\n")
        threading.Thread(target=_follow, args=(each_poll, settings.poll_s, stopped), daemon=True).start()
        while not stopped.wait(settings.poll_s):
            if (code := child.poll()) is not None:
                log.error("%s ended by itself, exit code %d", NAME, code)
                return code if code > 0 else 1
    finally:
        children.end(child, settings.grace_s)
        settings.version_file.unlink(missing_ok=True)
    return 0


def _follow(each_poll: Callable[[], None], poll_s: float, stopped: threading.Event) -> None:
    while not stopped.wait(poll_s):
        each_poll()
