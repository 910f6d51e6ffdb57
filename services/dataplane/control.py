"""Control RPCs (metadata, health, lists): plain async functions, their errors mapped in this one place."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from servepath.protocols.errors import BadInput, Internal, ServeError
from servepath.protocols.status import code_of, details_of, text_of

log = logging.getLogger(__name__)


class Message(Protocol):
    """A protobuf message class."""

    @classmethod
    def FromString(cls, payload: bytes, /) -> Any:  # noqa: N802 - protobuf's name
        """Parse bytes."""


Context = aio.ServicerContext[Any, Any]
Rpc = Callable[[Any], Awaitable[Any]]
# What takes the seconds that its caller waits as well; None, or very many, where the caller sets no deadline.
TimedRpc = Callable[[Any, float | None], Awaitable[Any]]


async def abort(context: Context, error: ServeError) -> NoReturn:
    """End a grpcio call with the error's code, text and details."""
    try:
        status = code_of(error), text_of(error), details_of(error)
    except Exception:  # escaping, it would reach the caller as UNKNOWN with its text
        log.exception("an error could not be sent")
        status = grpc.StatusCode.INTERNAL, Internal().text, ()
    await context.abort(*status)
    raise AssertionError("abort returned")  # pragma: no cover - it always raises


def handlers(service: str, rpcs: Mapping[str, tuple[Message, Rpc]]) -> grpc.GenericRpcHandler:
    """Return the handlers of a service: method name -> (request class, async function from request to response).

    A function raises ServeError to refuse; anything else it raises is logged and answered INTERNAL without its text.
    """
    ignoring = {name: (request_class, _untimed(rpc)) for name, (request_class, rpc) in rpcs.items()}
    return timed_handlers(service, ignoring)


def timed_handlers(service: str, rpcs: Mapping[str, tuple[Message, TimedRpc]]) -> grpc.GenericRpcHandler:
    """Return the handlers of functions that take the time that is left as well."""
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(request_class, rpc),
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (request_class, rpc) in rpcs.items()
        },
    )


def _untimed(rpc: Rpc) -> TimedRpc:
    return lambda request, _: rpc(request)


def _guarded(request_class: Message, rpc: TimedRpc) -> Callable[[bytes, Context], Awaitable[Any]]:
    # Parsed here, not by the library: it would answer UNKNOWN with the parser's own text, and log a traceback.
    async def handle(payload: bytes, context: Context) -> Any:
        try:
            return await rpc(_parsed(request_class, payload), context.time_remaining())
        except ServeError as error:
            await abort(context, error)
        except Exception:
            log.exception("a control RPC failed")
            await abort(context, Internal())

    return handle


def _parsed(request_class: Message, payload: bytes) -> Any:
    try:
        return request_class.FromString(payload)
    except DecodeError:
        raise BadInput("the message is not this method's request type", "MESSAGE") from None
