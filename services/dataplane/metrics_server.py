"""Prometheus metrics over HTTP, and pages beside them, on a port and threads of their own."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from threading import Thread
from types import MappingProxyType
from typing import NamedTuple
from wsgiref.simple_server import WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from services.dataplane.listener import PortBusyError

log = logging.getLogger(__name__)
# A page is of this moment, shows nothing but itself, and runs nothing.
HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


class Page(NamedTuple):
    """What is served beside the metrics. body: called for each request, on a thread of its own."""

    content_type: str
    body: Callable[[], str]


# By path, such as "/".
Pages = Mapping[str, Page]
NO_PAGES: Pages = MappingProxyType({})


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


def serve_metrics(registry: CollectorRegistry, host: str, port: int, pages: Pages = NO_PAGES) -> MetricsServer:
    """Serve `registry` at /metrics, and `pages`; port 0 takes a free one. Raises PortBusyError."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise PortBusyError(
            f"cannot listen on {host}:{port} for metrics: {error.strerror or error}; give another --metrics-host or "
            "--metrics-port"
        ) from error
    server.set_app(_with_pages(server.get_app(), pages))
    return MetricsServer(server, thread)


def _with_pages(metrics: WSGIApplication | None, pages: Pages) -> WSGIApplication:
    """Return an application that answers what is no page with the metrics."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page = pages.get(environ["PATH_INFO"])
        if page is None or environ["REQUEST_METHOD"] != "GET":
            return metrics(environ, start_response) if metrics else ()
        status, content_type = HTTPStatus.OK, page.content_type
        try:
            body = page.body().encode()
        except Exception:
            log.exception("the page %s could not be made", environ["PATH_INFO"])
            status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"internal error\n"
        headers = [*HEADERS, ("Content-Type", f"{content_type}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return answer


def process_registry() -> CollectorRegistry:
    """Return a new registry with the process's own metrics: CPU, memory, descriptors, garbage collector."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
