"""The refusal of a name that a caller used; what a model may be called is in store.names."""

from services.wire.errors import BadInput, ModelNotFound
from store.names import MODEL_NAME


def invalid_name_error(name: str) -> BadInput | ModelNotFound:
    """Return the error for an invalid or unknown name."""
    model, at, stack = name.partition("@")
    if not MODEL_NAME.fullmatch(model) or (at and not MODEL_NAME.fullmatch(stack)):
        return BadInput(f"model {name[:64]!a} is not MODEL or MODEL@STACK", "MODEL_NAME")
    return ModelNotFound(f"there is no model or path {name!r}")
