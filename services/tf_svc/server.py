"""The embedded server: TensorFlow Serving's two services over gRPC, and a thread that follows the version folders."""

import gc
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from servepath.artifacts.manifest import AGAIN
from servepath.artifacts.spec import FP32
from servepath.protocols import tfserving
from servepath.protocols.identity import ENGINE_KEY, ENGINE_VERSION_KEY, PRECISION_KEY
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.dataplane.listener import PortBusyError
from services.tf_svc.address import grpc_address
from services.tf_svc.answers import Answers
from services.tf_svc.config import Settings
from services.tf_svc.models_config import Entry
from services.tf_svc.refusal import LoadError, Refusal
from services.tf_svc.servable import Load
from services.tf_svc.versions import Versions

log = logging.getLogger(__name__)

ENGINE = "embedded"
JOIN_S = 1.0
# With --enable_grpc_healthcheck_service: set once, when the port opens, and never changed (model_servers/server.cc).
HEALTH_ENTRIES = ("", "ModelService", "PredictionService")


class EmbeddedServer:
    """A gRPC server and its models; `start` and `stop` once each."""

    def __init__(
        self, server: grpc.Server, models: Mapping[str, Versions], poll_s: float, each_poll: Callable[[], None]
    ) -> None:
        self._server = server
        self._models = models
        self._poll_s = poll_s
        self._each_poll = each_poll
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._follow, name="versions", daemon=True)

    def start(self) -> None:
        """Answer calls and follow the version folders."""
        # TensorFlow's half a million objects stay for good; collecting them again and again stalls calls for 100 ms.
        gc.collect()
        gc.freeze()
        self._server.start()
        self._poller.start()

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, and stop."""
        self._stopping.set()
        self._server.stop(grace_s).wait()
        self._poller.join(JOIN_S)  # one that loads a version now is a daemon, and ends with the process

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_s):
            self._attempt("staging", self._each_poll)
            for name, model in self._models.items():
                self._attempt(name, model.poll)

    def _attempt(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            log.exception("%s: looking for new versions failed; trying again", what)


def create_server(
    settings: Settings,
    models: Mapping[str, Entry],
    load: Load,
    engine_version: str,
    each_poll: Callable[[], None] = lambda: None,
) -> tuple[EmbeddedServer, int]:
    """Load the newest version of every model, bind, return the server and its port (0: a socket); start it yourself.

    each_poll: called before each look at the version folders. Raises PortBusyError, and LoadError when a model has no
    version or its newest does not load: tensorflow_model_server would not start either.
    """
    versions = {name: Versions(name, entry.base, load) for name, entry in models.items()}
    for name, model in versions.items():
        found = model.due()
        if found is None:
            raise LoadError(StatusCode.NOT_FOUND, f"{models[name].base} has no version; {AGAIN}")
        model.take(found)
    server = grpc.server(
        ThreadPoolExecutor(settings.threads, thread_name_prefix="call"),
        maximum_concurrent_rpcs=settings.max_calls,
        options=_options(settings),
    )
    labels = {name: entry.labels for name, entry in models.items()}
    _register(server, Answers(versions, labels), engine_version)
    address = grpc_address(settings)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortBusyError(
            f"{address} cannot be bound: stop what holds it, or give another --port or --socket"
        ) from error
    return EmbeddedServer(server, versions, settings.poll_s, each_poll), 0 if settings.socket else port


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # A compressed message is inflated before its size is checked: accept none.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]


def _register(server: grpc.Server, answers: Answers, engine_version: str) -> None:
    trailing = ((ENGINE_KEY, ENGINE), (ENGINE_VERSION_KEY, engine_version), (PRECISION_KEY, FP32))
    prediction = {
        "Predict": unary(pb.PredictRequest, answers.predict, trailing),
        "GetModelMetadata": unary(pb.GetModelMetadataRequest, answers.metadata, trailing),
    }
    model = {"GetModelStatus": unary(pb.GetModelStatusRequest, answers.status, trailing)}
    server.add_registered_method_handlers(tfserving.SERVICE, prediction)
    server.add_registered_method_handlers(tfserving.MODEL_SERVICE, model)
    servicer = health.HealthServicer()
    for name in HEALTH_ENTRIES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def unary(
    kind: Any, answer: Callable[[Any], Message], trailing: tuple[tuple[str, str], ...]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Return the handler of one method; the only place where errors become gRPC statuses."""

    def handle(payload: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailing)
        try:
            if not context.is_active() or context.time_remaining() == 0:
                raise Refusal(StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the call was computed")  # noqa: TRY301 - one way out
            return answer(kind.FromString(payload)).SerializeToString()
        except Refusal as refused:
            refusal = refused
        except DecodeError:
            text = f"the message is not a tensorflow.serving.{kind.DESCRIPTOR.name}"
            refusal = Refusal(StatusCode.INTERNAL, text)
        except Exception:
            log.exception("%s failed", kind.DESCRIPTOR.name)
            refusal = Refusal(StatusCode.INTERNAL, "internal error; the server's log has the cause")
        _refuse(context, refusal)

    return grpc.unary_unary_rpc_method_handler(handle)


def _refuse(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    context.abort(refusal.code, refusal.text)
