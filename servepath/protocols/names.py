"""The refusal of a name that a caller used; what a model may be called is in servepath.artifacts.names."""

from servepath.artifacts.names import MODEL_NAME
from servepath.protocols.errors import BadInput, ModelNotFound


def invalid_name_error(name: str) -> BadInput | ModelNotFound:
    """Return the error for an invalid or unknown name."""
    model, at, stack = name.partition("@")
    if not MODEL_NAME.fullmatch(model) or (at and not MODEL_NAME.fullmatch(stack)):
        return BadInput(f"model {name[:64]!a} is not MODEL or MODEL@STACK", "MODEL_NAME")
    return ModelNotFound(f"there is no model or path {name!r}")
