"""python -m services.gateway --deployments FILE --port N."""

import asyncio
import logging
import signal
import sys

import uvloop

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.settings import SettingsError
from services.dataplane.lifecycle import Server, log_to_stderr, serve
from services.dataplane.listener import PortBusyError
from services.dataplane.workers import BindAddresses, WorkerError, join, start_workers
from services.gateway.config import Settings, read_settings, share_otel, with_addresses
from services.gateway.promotion import refuse_promotion
from services.gateway.server import create_gateway
from services.gateway.status_page import merged_pages


async def start(settings: Settings) -> Server:
    """Start the gateway, or its workers, and say where they listen. SIGHUP reads deployments.toml and .env again."""
    loop = asyncio.get_running_loop()
    if settings.workers > 1:
        refuse_promotion(read_deployments(settings.deployments))
        addresses = BindAddresses(settings.host, settings.port, settings.metrics_host, settings.metrics_port)
        workers = await start_workers("services.gateway", settings.workers, addresses, merged_pages)
        loop.add_signal_handler(signal.SIGHUP, workers.pass_on, signal.SIGHUP)
        return workers
    gateway = await create_gateway(settings, with_addresses)
    loop.add_signal_handler(signal.SIGHUP, gateway.reloader.ask)
    logging.getLogger("services.gateway").info(
        "listening on %s:%d, metrics on %s:%d", settings.host, gateway.port, settings.metrics_host, gateway.metrics_port
    )
    if settings.worker_of is not None:
        await join(settings.worker_of, gateway.metrics_port)
    return gateway


def main() -> int:
    """Run the gateway until a signal stops it; exit code 1 when it cannot start."""
    log_to_stderr()
    # Until somebody takes it; what it asks for is being done.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = with_addresses(read_settings())
        share_otel(settings.otel)
        uvloop.run(serve(lambda: start(settings)))
    except (SettingsError, DeploymentsError, ArtifactError, PortBusyError, WorkerError) as error:
        # In one write: workers say theirs on the same stream.
        sys.stderr.write(f"gateway: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
