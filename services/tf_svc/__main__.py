"""Serve SavedModels over TensorFlow Serving's gRPC protocol: python -m services.tf_svc --models DIR --port N."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.locked import Held, locked
from servepath.protocols import tuned
from servepath.settings import SettingsError
from services.dataplane.listener import PortBusyError
from services.tf_svc import binary, models_config
from services.tf_svc.address import refuse_taken
from services.tf_svc.config import STACK, Settings, quiet_tensorflow, read_settings
from services.tf_svc.models_config import Entry
from services.tf_svc.refusal import LoadError
from services.tf_svc.servable import Servable
from services.tf_svc.server import ENGINE, create_server
from services.tf_svc.staging import Staging

log = logging.getLogger("services.tf_svc")
# How late a signal may be noticed.
NOTICE_S = 0.5


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code: 1 for a setting, files or an address that cannot be used."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # From a thread of its own: a handler that interrupts the main thread inside Event.wait could wait for itself.
        signal.signal(number, lambda *_: threading.Thread(target=stopped.set).start())
    try:
        return _run(read_settings(), stopped)
    except (ArtifactError, SettingsError, LoadError, PortBusyError, OSError) as error:
        log.error("tf_svc cannot start: %s", error)  # noqa: TRY400 - the line says it all
        return 1


def _run(settings: Settings, stopped: threading.Event) -> int:
    program = binary.find(settings)
    with _alone(settings.run_dir):
        settings.version_file.unlink(missing_ok=True)  # one that a killed predecessor left
        return _serve(program, settings, stopped)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep every other tf_svc out of the run folder, where this one links versions. Raises SettingsError."""
    try:
        with locked(folder / "lock"):
            yield
    except Held:
        raise SettingsError(f"another tf_svc uses {folder}: stop it, or give --run-dir another folder") from None


def _serve(program: str | None, settings: Settings, stopped: threading.Event) -> int:
    if program:
        binary.check_address(settings)
    else:
        refuse_taken(settings)
    staging = None
    config = settings.config
    if config is None:
        staging = Staging(models_config.find(settings.models), settings.run_dir.resolve() / "served")
        staging.begin()
        config = settings.run_dir / "models.config"
        write_file(config, models_config.render(staging.bases))
    each_poll = staging.step if staging else _nothing
    if not program:
        # A file of the user's own may say more than our subset of its messages; the real server judges it unread.
        return _serve_embedded(settings, models_config.read(config), stopped, each_poll)
    return binary.run(binary.command(program, settings, config), settings, stopped, each_poll)


def _nothing() -> None:
    pass


def _serve_embedded(
    settings: Settings, models: Mapping[str, Entry], stopped: threading.Event, each_poll: Callable[[], None]
) -> int:
    quiet_tensorflow()
    with _quiet_stderr():
        from services.tf_svc import savedmodel  # noqa: PLC0415 - costs seconds, and the real server needs none of it

        device = savedmodel.configure()
    version, found = f"tensorflow {savedmodel.VERSION}", tuned.in_use(settings.tuned)

    def load(model: str, number: int, folder: Path) -> Servable:
        own = found.get(f"{model}@{STACK}")
        return savedmodel.load(model, number, folder, own.settings.get("engine_threads") if own else None)

    server, port = create_server(settings, models, load, version, each_poll)
    if stopped.is_set():
        return 0
    server.start()
    where = settings.socket or f"{settings.host}:{port}"
    log.info("%s (%s) on %s, listening on %s", ENGINE, version, device, where)
    # With a limit: Python calls the handler of a signal that comes just before the lock is waited for only after that.
    while not stopped.wait(NOTICE_S):
        pass
    log.info("stopping; calls in flight have %g s", settings.grace_s)
    server.stop(settings.grace_s)
    return 0


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Buffer what native code writes to stderr; print it only on failure.

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
