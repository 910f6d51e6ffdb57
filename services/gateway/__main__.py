"""python -m services.gateway --deployments FILE --port N."""

import logging
import sys

import uvloop

from services.gateway.config import Settings, SettingsError, read_settings
from services.gateway.deployments import DeploymentsError
from services.gateway.server import Gateway, create_gateway
from services.serving.front import PortBusyError
from services.serving.lifecycle import log_to_stderr, serve
from store.manifest import ArtefactError


async def start(settings: Settings) -> Gateway:
    """Start the gateway and say where it listens."""
    gateway = await create_gateway(settings)
    logging.getLogger("services.gateway").info(
        "listening on %s:%d, metrics on %d", settings.host, gateway.port, gateway.metrics_port
    )
    return gateway


def main() -> int:
    """Run the gateway until a signal stops it; exit code 1 when it cannot start."""
    log_to_stderr()
    try:
        settings = read_settings()
        uvloop.run(serve(lambda: start(settings)))
    except (SettingsError, DeploymentsError, ArtefactError, PortBusyError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
