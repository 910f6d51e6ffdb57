"""Whether calls are traced, which OpenTelemetry's own variables say, and what calls go through then (ADR 37).

A variable that cannot be used is a warning, as OpenTelemetry wants it: calls are answered whoever watches them.
"""

import logging
from collections.abc import Mapping

from services.gateway.call_parts import PLAIN, CallParts
from services.gateway.metrics import Metrics

log = logging.getLogger(__name__)
EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def call_parts(otel: Mapping[str, str], metrics: Metrics) -> CallParts:
    """Return what calls go through by these variables, which have to be in the environment, too. Raises nothing."""
    if not is_wanted(otel):
        return PLAIN
    exporter = otel.get(EXPORTER, "otlp")
    protocol = next((otel[name] for name in PROTOCOLS if name in otel), "grpc")
    if (exporter, protocol) != ("otlp", "grpc"):
        log.warning("calls are not traced: spans leave by otlp over grpc alone, not by %s over %s", exporter, protocol)
        return PLAIN
    try:
        # 0.2 s and 8 MB, for those who trace alone.
        from services.gateway.tracing import Tracing  # noqa: PLC0415

        return Tracing(metrics).parts()
    except ModuleNotFoundError as error:
        log.warning("calls are not traced: %s; pip install -c constraints.txt '.[tracing]'", error)
    except Exception as error:  # noqa: BLE001 - the exporter's own, of a variable that it cannot use
        log.warning("calls are not traced: a variable OTEL_* cannot be used: %s", error)
    return PLAIN


def is_wanted(otel: Mapping[str, str]) -> bool:
    """Return whether these variables ask for traces: they name an exporter, or an endpoint."""
    if otel.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if EXPORTER in otel:
        return otel[EXPORTER] != "none"
    return any(name in otel for name in ENDPOINTS)
