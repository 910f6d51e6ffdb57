"""python -m services.onnx_svc --models artifacts/exports --port 8001."""

import logging
import sys
from functools import partial

import uvloop

from services.onnx_svc.config import Settings, SettingsError, read_settings
from services.onnx_svc.ort import OrtEngine
from services.onnx_svc.server import OnnxServer, create_server
from services.serving.engine import EngineError
from services.serving.front import PortBusyError
from services.serving.lifecycle import log_to_stderr, serve
from store.manifest import ArtefactError


async def start(settings: Settings) -> OnnxServer:
    """Start the server and say where it listens."""
    server = await create_server(settings, partial(OrtEngine, device=settings.device))
    logging.getLogger("services.onnx_svc").info(
        "listening on %s:%d, metrics on %s:%d", settings.host, server.port, settings.metrics_host, server.metrics_port
    )
    return server


def main() -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start."""
    log_to_stderr()
    try:
        settings = read_settings()
        uvloop.run(serve(lambda: start(settings)))
    except (SettingsError, ArtefactError, EngineError, PortBusyError) as error:
        print(f"onnx_svc: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
