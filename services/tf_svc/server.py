"""The embedded server: TensorFlow Serving's two services over gRPC, and a thread that follows the version folders."""

import gc
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.serving.front import PortBusyError
from services.tf_svc.answers import Answers
from services.tf_svc.config import Settings
from services.tf_svc.refusal import Refusal, invalid
from services.tf_svc.servable import Load
from services.tf_svc.versions import Versions
from services.wire import tfserving
from store.manifest import ArtefactError

log = logging.getLogger(__name__)

ENGINE = "embedded"


class EmbeddedServer:
    """A gRPC server and its models; `start` and `stop` once each."""

    def __init__(self, server: grpc.Server, models: Mapping[str, Versions], poll_s: float) -> None:
        self._server = server
        self._models = models
        self._poll_s = poll_s
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
        """Refuse new calls, give those in flight `grace_s` seconds, and end."""
        self._stopping.set()
        self._server.stop(grace_s).wait()
        self._poller.join()

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_s):
            for name, model in self._models.items():
                try:
                    model.poll()
                except Exception:
                    log.exception("%s: looking for new versions failed; trying again", name)


def create_server(
    settings: Settings, bases: Mapping[str, Path], load: Load, engine_version: str
) -> tuple[EmbeddedServer, int]:
    """Load the newest version of every model, bind the port and give the server and its port; start it yourself.

    Raises ArtefactError when a model has no version or its newest does not load, as tensorflow_model_server would not
    start either; PortBusyError.
    """
    models = {name: Versions(name, base, load) for name, base in bases.items()}
    _load_all(models, bases)
    server = grpc.server(
        ThreadPoolExecutor(settings.threads, thread_name_prefix="call"),
        maximum_concurrent_rpcs=settings.max_calls,
        options=_options(settings),
    )
    _register(server, Answers(models), engine_version)
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError as error:
        raise PortBusyError(f"port {settings.port} on {settings.host} cannot be bound; is it in use?") from error
    return EmbeddedServer(server, models, settings.poll_s), port


def _load_all(models: Mapping[str, Versions], bases: Mapping[str, Path]) -> None:
    due = {name: model.due() for name, model in models.items()}
    for name, found in due.items():
        if found is None:
            raise ArtefactError(f"{bases[name]} has no version folder; run: make export")
        models[name].take(found)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # A compressed message is inflated before its size is checked: accept none.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]


def _register(server: grpc.Server, answers: Answers, engine_version: str) -> None:
    trailing = ((tfserving.ENGINE_KEY, ENGINE), (tfserving.ENGINE_VERSION_KEY, engine_version))
    prediction = {
        "Predict": unary(pb.PredictRequest, answers.predict, trailing),
        "GetModelMetadata": unary(pb.GetModelMetadataRequest, answers.metadata, trailing),
    }
    model = {"GetModelStatus": unary(pb.GetModelStatusRequest, answers.status, trailing)}
    server.add_registered_method_handlers(tfserving.SERVICE, prediction)
    server.add_registered_method_handlers(tfserving.MODEL_SERVICE, model)


def unary(
    kind: Any, answer: Callable[[Any], Message], trailing: tuple[tuple[str, str], ...]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Give the handler of one method; the only place where refusals and faults become gRPC statuses."""

    def handle(payload: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailing)
        try:
            if not context.is_active() or context.time_remaining() == 0:
                raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the call was computed")  # noqa: TRY301 - one way out
            return answer(kind.FromString(payload)).SerializeToString()
        except Refusal as refused:
            refusal = refused
        except DecodeError:
            refusal = invalid(f"the message is not a tensorflow.serving.{kind.DESCRIPTOR.name}")
        except Exception:
            log.exception("%s failed", kind.DESCRIPTOR.name)
            refusal = Refusal(grpc.StatusCode.INTERNAL, "internal error; the server's log has the cause")
        _refuse(context, refusal)

    return grpc.unary_unary_rpc_method_handler(handle)


def _refuse(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    context.abort(refusal.code, refusal.text)
