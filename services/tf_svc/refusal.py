"""What the embedded server answers instead of a result, with TensorFlow Serving's own codes and texts."""

from grpc import StatusCode

# tensorflow_serving/model_servers/grpc_status_util.cc
TEXT_LIMIT = 1024
CUT = "...TRUNCATED"


class Refusal(Exception):
    """A call that is refused: `code` and `text` go to the caller as they are."""

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + CUT


class LoadError(Exception):
    """A version that does not load; `code` is what GetModelStatus says of it."""

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def invalid(text: str) -> Refusal:
    """Return the refusal of a request that is at fault."""
    return Refusal(StatusCode.INVALID_ARGUMENT, text)
