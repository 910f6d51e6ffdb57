import os

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.call_parts import PLAIN
from services.gateway.config import share_otel
from services.gateway.metrics import Metrics
from services.gateway.telemetry import call_parts, is_wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "otlp"},
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "false"},
    ],
)
def test_an_exporter_or_an_endpoint_asks_for_traces(variables: dict[str, str]) -> None:
    assert is_wanted(variables)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "gateway", "OTEL_TRACES_SAMPLER": "always_on"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_nothing_else_does_and_some_say_no(variables: dict[str, str]) -> None:
    assert not is_wanted(variables)
    assert call_parts(variables, Metrics(CollectorRegistry())) is PLAIN


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "by otlp over grpc alone, not by zipkin over grpc"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "not by otlp over http/protobuf"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "a variable OTEL_* cannot be used: could not convert"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_COMPRESSION": "rar"}, "a variable OTEL_* cannot be used"),
    ],
)
def test_what_cannot_be_used_is_said_and_calls_go_on_untraced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert call_parts(variables, Metrics(CollectorRegistry())) is PLAIN
    (record,) = caplog.records
    assert record.getMessage().startswith("calls are not traced: ")
    assert said in record.getMessage()


def test_traced_calls_go_through_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENDPOINT.items():
        monkeypatch.setenv(name, value)
    parts = call_parts(ENDPOINT, Metrics(CollectorRegistry()))
    assert parts.data_plane is not PLAIN.data_plane
    assert parts.batcher is not PLAIN.batcher
    assert parts.replica is not PLAIN.replica


def test_a_queue_that_cannot_be_is_said_as_the_export_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "0"}.items():
        monkeypatch.setenv(name, value)
    call_parts(ENDPOINT, Metrics(CollectorRegistry())).start()
    assert "no span is exported: a variable OTEL_BSP_* cannot be used: " in caplog.text


def test_a_header_for_the_collector_that_cannot_be_read_is_said_without_the_key_in_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "api-key:secret,team=a"}.items():
        monkeypatch.setenv(name, value)
    assert call_parts(ENDPOINT, Metrics(CollectorRegistry())) is not PLAIN
    assert caplog.messages == ["a header in OTEL_EXPORTER_OTLP_*HEADERS is not NAME=VALUE, and is not sent"]


def test_the_sdk_finds_what_a_file_says_and_no_empty_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "")
    share_otel({"OTEL_SERVICE_NAME": "edge"})
    assert {name: value for name, value in os.environ.items() if name.startswith("OTEL_")} == {
        "OTEL_SERVICE_NAME": "edge"
    }
