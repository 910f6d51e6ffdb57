"""A collector of spans: a real gRPC server of OTLP's TraceService that keeps what it is sent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.limits import LONG_S


class Collector(TraceServiceServicer):
    """Keeps spans. silent: answers nobody."""

    def __init__(self) -> None:
        self.port = 0
        self.spans: list[Span] = []
        self.resource: Mapping[str, Any] = {}
        self.silent = False
        self.asked = asyncio.Event()

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that make a gateway send its spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "20"}

    async def Export(self, request: ExportTraceServiceRequest, _: Any) -> ExportTraceServiceResponse:  # noqa: N802 - OTLP's
        self.asked.set()
        if self.silent:
            await asyncio.sleep(LONG_S)
        for resource in request.resource_spans:
            self.resource = attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return ExportTraceServiceResponse()

    async def until(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """Return the spans when there are enough."""
        async with asyncio.timeout(LONG_S):
            while not enough(self.spans):  # noqa: ASYNC110 - spans come one by one
                await asyncio.sleep(0.01)
        return self.spans


def attributes(found: Any) -> dict[str, Any]:
    """Return OTLP's attributes as a dict."""
    return {each.key: _value(each) for each in found}


def _value(each: KeyValue) -> Any:
    return getattr(each.value, each.value.WhichOneof("value") or "string_value")


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector."""
    server, collector = aio.server(), Collector()
    add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
