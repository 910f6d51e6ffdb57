"""One TorchServe from start to stop: refuse early, start it, keep its key fresh, end when told or when it ends."""

import contextlib
import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from servepath.artifacts.manifest import Manifest
from servepath.protocols.token import TokenFile
from services.healthcheck import MAX_BYTES
from services.torch_svc import model_store, ports, run_dir, server
from services.torch_svc.config import Settings
from services.torch_svc.keys import Keys, NoTokens
from services.torch_svc.probe import Probe, probe_request

log = logging.getLogger(__name__)
TICK_S = 0.2
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
# Blocked and waited for instead of handled: nothing is ever interrupted, so nothing is left half done.
AWAITED = STOP_SIGNALS | {signal.SIGCHLD}


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, and clean up. Raises ServerError, ArtifactError, PortBusyError or RunDirError."""
    begin = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(run_dir.opened(settings.run_dir))
        manifests = model_store.fill(settings.models, folder.model_store, settings.tuned)
        ports.check(settings.host, settings.ports)
        keys = _keys(settings, folder)
        keys.withdraw()  # one left by a killed predecessor
        stack.callback(keys.withdraw)
        process = server.start(settings, folder, manifests)
        stack.callback(process.stop)
        probe = Probe(_address(settings), manifests, TokenFile(settings.token_file))
        stack.callback(probe.close)

        def ready() -> None:
            _write_probe_requests(folder.health, manifests)
            _log_ready(settings, manifests, begin)

        _watch(process, keys, probe, ready)


def _keys(settings: Settings, folder: run_dir.RunDir) -> Keys | NoTokens:
    if not settings.tokens:
        log.warning(
            "token authorization is disabled: every client that reaches port %d may predict", settings.ports.inference
        )
        return NoTokens()
    return Keys(folder.key_file, settings.token_file, settings.ports.management, settings.token_renew_s)


def _watch(process: server.Server, keys: Keys | NoTokens, probe: Probe, on_ready: Callable[[], None]) -> None:
    ready = False
    while not _told_to_stop():
        process.check()
        if keys.step() and not ready:
            ready = probe.step()
            if ready:
                on_ready()


def _write_probe_requests(health: Path, manifests: Mapping[str, Manifest]) -> None:
    """Write the health check's calls; that they are there says that every model was ready once."""
    whole = health.with_name("health.new")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for model, manifest in manifests.items():
        if len(payload := probe_request(model, manifest)) <= MAX_BYTES:
            (whole / model).write_bytes(payload)
        else:
            log.warning("the health check skips %s: one row has %d bytes", model, len(payload))
    whole.rename(health)


def _log_ready(settings: Settings, manifests: Mapping[str, Manifest], begin: float) -> None:
    models = ", ".join(f"{model} version {manifest.version}" for model, manifest in manifests.items())
    where = f"{settings.host}:{settings.ports.inference}"
    log.info("ready on %s after %.1f s: %s", where, time.monotonic() - begin, models)


def _told_to_stop() -> bool:
    """Wait one tick, less if a signal comes, and say whether it asks us to stop."""
    found = signal.sigtimedwait(AWAITED, TICK_S)
    if found is None or found.si_signo not in STOP_SIGNALS:
        return False
    log.info("stopping on %s", signal.Signals(found.si_signo).name)
    return True


def _address(settings: Settings) -> str:
    return f"{ports.LOOPBACK if settings.host == '0.0.0.0' else settings.host}:{settings.ports.inference}"  # noqa: S104 - compared, not bound
