"""python -m services.onnx_svc --models artifacts/exports --port 8001."""

import logging
import sys
from functools import partial

import uvloop

from servepath.artifacts.manifest import ArtifactError
from servepath.settings import SettingsError
from services.dataplane.engine import EngineError
from services.dataplane.lifecycle import Server, log_to_stderr, serve
from services.dataplane.listener import PortBusyError
from services.dataplane.workers import BindAddresses, WorkerError, join, start_workers
from services.onnx_svc.config import Settings, read_settings
from services.onnx_svc.ort import OrtEngine
from services.onnx_svc.server import create_server


async def start(settings: Settings) -> Server:
    """Start the server, or its workers, and say where they listen."""
    if settings.workers > 1:
        addresses = BindAddresses(settings.host, settings.port, settings.metrics_host, settings.metrics_port)
        return await start_workers("services.onnx_svc", settings.workers, addresses)
    server = await create_server(settings, partial(OrtEngine, device=settings.device))
    logging.getLogger("services.onnx_svc").info(
        "listening on %s:%d, metrics on %s:%d", settings.host, server.port, settings.metrics_host, server.metrics_port
    )
    if settings.worker_of is not None:
        await join(settings.worker_of, server.metrics_port)
    return server


def main() -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start."""
    log_to_stderr()
    try:
        settings = read_settings()
        uvloop.run(serve(lambda: start(settings)))
    except (SettingsError, ArtifactError, EngineError, PortBusyError, WorkerError) as error:
        # In one write: workers say theirs on the same stream.
        sys.stderr.write(f"onnx_svc: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
