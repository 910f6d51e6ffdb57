"""Everything that can go wrong with a prediction.

ServeError
 +- BadInput              the request is at fault; the text says where
 +- ModelNotFound          no such model, path or version
 +- ModelLoading          known, but its server has not loaded it yet
 +- Overloaded            too much in flight or queued here or behind; try again later
 +- TooLarge              the message is above a limit
 +- BackendUnavailable    the path's server cannot be reached
 +- BatchSpoiled          the path's server failed the call for another one that it had put into its batch
 +- DeadlineExceeded      the deadline passed: on arrival, in a queue, or at the path's server
 +- Cancelled             the caller went away
 +- BackendBadReply       the path's server answered something unusable
 +- BackendMisconfigured  the path's server refuses our credentials or does not know what it should
 +- Draining              this process is shutting down
 +- Unsupported           a known method that this server does not offer
 +- Internal              a fault of our own; its cause is in the log, never in the text

No text here may hold a path, a host name or another program's exception text: clients see it.
`servepath.protocols.status` maps each class to its gRPC code.
"""

import random
from enum import StrEnum


class ServeError(Exception):
    """A prediction that ends without an answer.

    text: for the caller. reason: machine-readable, google.rpc.ErrorInfo.reason. retry_after_ms: a hint, 0 for at once
    or elsewhere; None means that the same request will fail again. pushback_ms: what the path's server has said of
    another try, if anything; below 0 it wants none.
    """

    reason = "INTERNAL"
    retry_after_ms: int | None = None
    pushback_ms: int | None = None

    def __init__(self, text: str, *, reason: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        if reason is not None:
            self.reason = reason
        if retry_after_ms is not None:
            self.retry_after_ms = retry_after_ms


class BadInput(ServeError):
    """The request is at fault. `what` becomes the last part of the reason, such as BAD_INPUT.SHAPE."""

    def __init__(self, text: str, what: str = "REQUEST") -> None:
        super().__init__(text, reason=f"BAD_INPUT.{what}")


class ModelNotFound(ServeError):
    """There is no such model, path or version."""

    reason = "MODEL_UNKNOWN"


class ModelLoading(ServeError):
    """The version is known, but its server has not loaded it yet."""

    reason = "MODEL_LOADING"
    retry_after_ms = 1000


class Overloaded(ServeError):
    """A bound was reached, here or at the path's server."""

    reason = "OVERLOADED"

    def __init__(self, text: str, *, retry_after_ms: int | None = None) -> None:
        if retry_after_ms is None:
            # Drawn for each: callers who were refused together must not come back together.
            retry_after_ms = random.randint(100, 1000)  # noqa: S311 - a pause, not a secret
        super().__init__(text, retry_after_ms=retry_after_ms)


class TooLarge(ServeError):
    """The message is above a limit."""

    reason = "TOO_LARGE"


class BackendUnavailable(ServeError):
    """The path's server cannot be reached, or lost the connection."""

    reason = "BACKEND_DOWN"
    retry_after_ms = 1000


class BatchSpoiled(ServeError):
    """The path's server put the call into a batch that another caller's request made fail: nobody here is at fault."""

    reason = "BATCH_SPOILED"
    retry_after_ms = 10


class DeadlineStage(StrEnum):
    """Where a deadline passed."""

    ON_ARRIVAL = "EXPIRED_ON_ARRIVAL"
    IN_QUEUE = "EXPIRED_IN_QUEUE"
    IN_BACKEND = "EXPIRED_IN_BACKEND"


class DeadlineExceeded(ServeError):
    """The deadline passed."""

    def __init__(self, stage: DeadlineStage) -> None:
        super().__init__(
            f"deadline exceeded ({stage.removeprefix('EXPIRED_').replace('_', ' ').lower()})", reason=stage
        )


class Cancelled(ServeError):
    """The caller went away."""

    reason = "CANCELLED"

    def __init__(self) -> None:
        super().__init__("cancelled by the caller")


class BackendBadReply(ServeError):
    """The path's server answered something that is not an answer to the request."""

    reason = "BACKEND_BAD_REPLY"


class BackendMisconfigured(ServeError):
    """The path's server refuses our credentials, or does not know a model or method that it should."""

    reason = "BACKEND_MISCONFIGURED"


class Draining(ServeError):
    """This process is shutting down."""

    reason = "DRAINING"
    retry_after_ms = 0

    def __init__(self) -> None:
        super().__init__("shutting down")


class Unsupported(ServeError):
    """A known method that this server does not offer."""

    reason = "UNSUPPORTED"


class Internal(ServeError):
    """A fault of our own."""

    reason = "INTERNAL"

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has the cause")
