"""The real tensorflow_model_server: found, its command line, and this process turned into it.

It has no option to listen on loopback only (0.0.0.0 always), does not drain on SIGTERM (it ends in milliseconds), and
waits for ever with its port closed when a model has no version: so the folders are checked before.

Not seen running: no package index carries the program, so this branch has been run with a stand-in that records its
arguments (tests/integration/services/tf_svc/test_process.py). Behaviour named here was read, or observed elsewhere.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from services.tf_svc.config import ConfigError, Settings
from services.tf_svc.models_config import BATCHING
from services.tf_svc.versions import newest
from store.atomic import write_file
from store.manifest import ArtefactError, verify

log = logging.getLogger(__name__)

NAME = "tensorflow_model_server"
VERSION_TIMEOUT_S = 20


def find(settings: Settings) -> str | None:
    """Give the program's path, or None to run the embedded server. Raises ConfigError when one asked for is missing."""
    if settings.engine == "embedded":
        return None
    path = shutil.which(settings.binary or NAME)
    if path is None and settings.binary:
        raise ConfigError(f"TENSORFLOW_MODEL_SERVER={settings.binary} is no program; correct or unset it")
    if path is None and settings.engine == NAME:
        raise ConfigError(f"{NAME} is not on PATH; install it, set TENSORFLOW_MODEL_SERVER, or use --engine embedded")
    return path


def command(program: str, settings: Settings, config: Path, batching: Path) -> list[str]:
    """Give its command line. It ignores options that it does not know, so each one here was read in its main.cc."""
    return [
        program,
        f"--port={settings.port}",
        "--rest_api_port=0",
        f"--model_config_file={config.resolve()}",
        "--file_system_poll_wait_seconds=1",
        "--enable_batching=true",
        f"--batching_parameters_file={batching.resolve()}",
        # By default 4 x CPUs, and the last one refuses: 8 calls in flight are then too many on 2 cores.
        f"--grpc_max_threads={settings.max_calls}",
        # Another server on the port must be an error, not a silent share of the calls.
        "--grpc_channel_arguments=grpc.so_reuseport=0",
        # By default one broken version blocks every other update for 5 minutes.
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=1",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
    ]


def version_of(program: str) -> str:
    """Give the version that the program prints, or "version not reported"."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "version not reported"
    first = done.stdout.strip().partition("\n")[0]
    return first.rpartition(" ")[2] or "version not reported"


def check(bases: Mapping[str, Path]) -> None:
    """Check the newest version of every model against its manifest. Raises ArtefactError."""
    for base in bases.values():
        try:
            found = newest(base)
        except OSError as error:
            raise ArtefactError(f"{base} cannot be read ({error.strerror}); run: make export") from error
        if found is None:
            raise ArtefactError(f"{base} has no version folder; run: make export")
        verify(found.folder)


def become(program: str, settings: Settings, config: Path) -> NoReturn:
    """Replace this process by the server; it keeps the process id, so signals reach it. Raises ConfigError."""
    if settings.port == 0:
        raise ConfigError(f"{NAME} cannot choose a free port; give --port a number")
    batching = settings.run_folder / "batching.config"
    write_file(batching, BATCHING)
    log.info("%s %s, port %d", NAME, version_of(program), settings.port)
    log.warning("it listens on every interface and has no option for loopback alone; firewall port %d", settings.port)
    sys.stdout.flush()
    sys.stderr.flush()
    words = command(program, settings, config, batching)
    os.execv(program, words)  # noqa: S606 - a fixed list of words, no shell
