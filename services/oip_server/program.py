"""A service of this server as a program: settings, the server or its workers, and one line when it cannot start."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import uvloop

from servepath.artifacts.manifest import ArtifactError
from servepath.settings import SettingsError
from services.dataplane.engine import EngineError, Load
from services.dataplane.lifecycle import Server, log_to_stderr, serve
from services.dataplane.listener import PortBusyError
from services.dataplane.workers import BindAddresses, WorkerError, join, start_workers
from services.oip_server.config import Settings
from services.oip_server.server import create_server
from services.oip_server.service import OipService

S = TypeVar("S", bound=Settings)


def run(service: OipService, read_settings: Callable[[], S], engine: Callable[[S], Load]) -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start. engine: gives what loads a file."""
    log_to_stderr()
    try:
        settings = read_settings()
        uvloop.run(serve(lambda: _start(service, settings, engine(settings))))
    except (SettingsError, ArtifactError, EngineError, PortBusyError, WorkerError) as error:
        # In one write: workers say theirs on the same stream.
        sys.stderr.write(f"{service.name}: {error}\n")
        return 1
    return 0


async def _start(service: OipService, settings: Settings, load_engine: Load) -> Server:
    """Start the server, or its workers, and say where they listen."""
    if settings.workers > 1:
        addresses = BindAddresses(settings.host, settings.port, settings.metrics_host, settings.metrics_port)
        return await start_workers(service.module, settings.workers, addresses)
    server = await create_server(service, settings, load_engine)
    logging.getLogger(service.module).info(
        "listening on %s:%d, metrics on %s:%d", settings.host, server.port, settings.metrics_host, server.metrics_port
    )
    if settings.worker_of is not None:
        await join(settings.worker_of, server.metrics_port)
    return server
