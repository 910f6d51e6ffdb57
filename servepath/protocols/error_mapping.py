"""What a path's server may refuse a call with, in our words: one error for each meaning, whatever the protocol.

A server's own text is looked at and never passed on: it may hold paths, hosts and other programs' exceptions.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from grpc import StatusCode

from servepath.protocols import errors

ErrorFactory = Callable[[], errors.ServeError]
ByCode = Mapping[StatusCode, ErrorFactory]
ByText = tuple[tuple[StatusCode, str, ErrorFactory], ...]


def bad(what: str = "CONTENT") -> ErrorFactory:
    """Return the error for a request whose content is at fault."""
    return partial(errors.BadInput, "the model server refused the content of the request", what)


def loading() -> errors.ServeError:
    """Return the error for a model or version that is not loaded yet."""
    return errors.ModelLoading("the model server has not loaded this model or version")


def overloaded() -> errors.ServeError:
    """Return the error for an overloaded server."""
    return errors.Overloaded("the model server is overloaded")


def too_large() -> errors.ServeError:
    """Return the error for a request above the server's limit."""
    return errors.TooLarge("the request is larger than the model server takes")


def reply_too_large() -> errors.ServeError:
    """Return the error for a reply above our limit: fewer rows or outputs have a smaller one."""
    return errors.TooLarge("the answer is larger than this gateway takes from a server")


def down() -> errors.ServeError:
    """Return the error for a lost server, connection or worker."""
    return errors.BackendUnavailable("the model server cannot be reached, or lost the request")


def spoiled() -> errors.ServeError:
    """It put the request into a batch with another one that does not fit; asked again, it is in another batch."""
    return errors.BatchSpoiled("the model server failed the request's batch for another request in it; try again")


def expired() -> errors.ServeError:
    """Return the error for a deadline that passed at the server."""
    return errors.DeadlineExceeded(errors.DeadlineStage.IN_BACKEND)


def misconfigured() -> errors.ServeError:
    """Return the error for refused credentials, or a model or method that the server lacks."""
    return errors.BackendMisconfigured("the model server refuses this gateway's calls, or lacks a model or method")


def failed() -> errors.ServeError:
    """Return the error for a failure that is not the request's fault."""
    return errors.BackendBadReply("the model server failed")


# What a code means unless a protocol says otherwise.
BY_CODE: ByCode = MappingProxyType(
    {
        StatusCode.OK: failed,
        # A call that we cancel ourselves gives no status: this one was cancelled by the server, or its connection.
        StatusCode.CANCELLED: down,
        StatusCode.UNKNOWN: failed,
        StatusCode.INVALID_ARGUMENT: bad(),
        StatusCode.DEADLINE_EXCEEDED: expired,
        StatusCode.NOT_FOUND: loading,
        StatusCode.ALREADY_EXISTS: failed,
        StatusCode.PERMISSION_DENIED: misconfigured,
        StatusCode.UNAUTHENTICATED: misconfigured,
        StatusCode.RESOURCE_EXHAUSTED: overloaded,
        StatusCode.FAILED_PRECONDITION: failed,
        StatusCode.ABORTED: down,
        StatusCode.OUT_OF_RANGE: bad(),
        StatusCode.UNIMPLEMENTED: misconfigured,
        StatusCode.INTERNAL: failed,
        StatusCode.UNAVAILABLE: down,
        StatusCode.DATA_LOSS: failed,
    },
)
# What our own gRPC libraries say, whatever the server is (grpcio 1.85, servepath.http2).
LIBRARY: ByText = (
    (StatusCode.UNKNOWN, "Stream removed", down),
    (StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max", reply_too_large),
    (StatusCode.RESOURCE_EXHAUSTED, "message larger than max", too_large),
)


def translate(code: StatusCode, details: str, by_code: ByCode, by_text: ByText = ()) -> errors.ServeError:
    """Map a server's error to one of ours: the first matching fragment of the text decides, else the code."""
    for refused, fragment, refusal in (*by_text, *LIBRARY):
        if refused is code and fragment in details:
            return refusal()
    return by_code[code]()
