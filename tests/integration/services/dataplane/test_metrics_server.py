"""Pages beside the metrics, over real HTTP."""

import urllib.request
from urllib.error import HTTPError

import pytest
from prometheus_client import CollectorRegistry

from services.dataplane.metrics_server import Page, serve_metrics
from tests.limits import LONG_S


def test_a_page_that_cannot_be_made_is_an_internal_error_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str:
        raise RuntimeError("secret")

    server = serve_metrics(CollectorRegistry(), "127.0.0.1", 0, {"/": Page("text/html", fail)})
    try:
        with pytest.raises(HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=LONG_S)
        with caught.value as refused:
            assert (refused.code, refused.read()) == (500, b"internal error\n")
        assert "the page / could not be made" in caplog.text
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=LONG_S) as reply:
            assert reply.status == 200
    finally:
        server.close()
