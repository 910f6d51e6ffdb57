"""What e2e-compose takes for a Prometheus that reaches every service that runs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.e2e.observability import MEASURED, targets_up

BY_DEFAULT = {"gateway", "onnx_svc"}


@contextmanager
def prometheus(health: dict[str, str]) -> Iterator[str]:
    """Answer as Prometheus does with targets of this health by job; yield the port."""
    targets = [{"labels": {"job": job}, "health": how} for job, how in health.items()]
    content = json.dumps({"status": "success", "data": {"activeTargets": targets}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/v1/targets"
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("measured", "health", "up"),
    [
        (BY_DEFAULT, dict.fromkeys(BY_DEFAULT, "up"), True),
        (MEASURED, dict.fromkeys(MEASURED, "up"), True),
        (MEASURED, dict.fromkeys(BY_DEFAULT, "up"), False),
        (BY_DEFAULT, dict.fromkeys(MEASURED, "up"), False),
        (BY_DEFAULT, {"gateway": "up", "onnx_svc": "down"}, False),
    ],
)
def test_prometheus_must_reach_what_runs_and_nothing_else(
    measured: set[str], health: dict[str, str], *, up: bool
) -> None:
    with prometheus(health) as port:
        assert targets_up(measured, port) == up
