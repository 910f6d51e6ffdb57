"""Serve SavedModels over TensorFlow Serving's gRPC protocol: python -m services.tf_svc --models DIR --port N."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.serving.front import PortBusyError
from services.tf_svc import binary, models_config
from services.tf_svc.config import ConfigError, Settings, quiet_tensorflow, read_settings
from services.tf_svc.server import ENGINE, create_server
from store.atomic import write_file
from store.manifest import ArtefactError

log = logging.getLogger("services.tf_svc")


def main() -> int:
    """Run until SIGTERM or SIGINT. Gives the exit code: 1 for files or a port that cannot be used."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    settings = read_settings(sys.argv[1:])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # From a thread of its own: a handler that interrupts the main thread inside Event.wait could wait for itself.
        signal.signal(number, lambda *_: threading.Thread(target=stopped.set).start())
    try:
        _run(settings, stopped)
    except (ArtefactError, ConfigError, PortBusyError, OSError) as error:
        log.error("tf_svc cannot start: %s", error)  # noqa: TRY400 - the line says it all
        return 1
    return 0


def _run(settings: Settings, stopped: threading.Event) -> None:
    program = binary.find(settings)
    _check_port(settings)
    config = settings.config or settings.run_folder / "models.config"
    if settings.config is None:
        write_file(config, models_config.render(models_config.find(settings.models)))
    if program and settings.config:
        # The user's own file may say more than our subset of its messages: it is the server's to judge.
        binary.become(program, settings, config)
    bases = models_config.read(config)
    if program:
        binary.check(bases)
        binary.become(program, settings, config)
    _serve_embedded(settings, bases, stopped)


def _serve_embedded(settings: Settings, bases: Mapping[str, Path], stopped: threading.Event) -> None:
    quiet_tensorflow()
    with _quiet_stderr():
        from services.tf_svc import savedmodel  # noqa: PLC0415 - costs seconds, and the real server needs none of it

        device = savedmodel.configure()
    version = f"tensorflow {savedmodel.VERSION}"
    server, port = create_server(settings, bases, savedmodel.load, version)
    if stopped.is_set():
        return
    server.start()
    log.info("%s (%s) on %s, listening on %s:%d", ENGINE, version, device, settings.host, port)
    stopped.wait()
    log.info("stopping; calls in flight have %g s", settings.grace_s)
    server.stop(settings.grace_s)


def _check_port(settings: Settings) -> None:
    """Find a busy port before seconds are spent on loading. The bind that counts comes later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise PortBusyError(
                f"port {settings.port} on {settings.host} cannot be bound ({error.strerror}); set TF_SVC_PORT"
            ) from error


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what native code writes to stderr; print it only if the block fails.

    TensorFlow's libraries greet before any log level applies (absl::InitializeLog).
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            shutil.copyfileobj(held, sys.stderr.buffer)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
