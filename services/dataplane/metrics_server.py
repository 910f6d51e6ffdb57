"""Prometheus metrics over HTTP, on a port and threads of their own."""

from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from services.dataplane.listener import PortBusyError


class MetricsServer:
    """Serves one registry until it is closed. port: where it listens."""

    def __init__(self, server: WSGIServer, thread: Thread) -> None:
        self.port = server.server_port
        self._server = server
        self._thread = thread

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> MetricsServer:
    """Serve `registry` at /metrics; port 0 takes a free one. Raises PortBusyError."""
    try:
        return MetricsServer(*start_http_server(port, host, registry))
    except OSError as error:
        raise PortBusyError(f"cannot listen on {host}:{port} for metrics: {error.strerror or error}") from error


def process_registry() -> CollectorRegistry:
    """Return a new registry with the process's own metrics: CPU, memory, descriptors, garbage collector."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
