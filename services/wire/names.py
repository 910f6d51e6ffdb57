"""The refusal of a name that a caller used; what a model may be called is in store.names."""

from services.wire.errors import BadInput, ModelUnknown
from store.names import MODEL_NAME


def refusal(name: str) -> BadInput | ModelUnknown:
    """Give the error for a name that nothing here has: it cannot be one, or it is unknown."""
    model, at, stack = name.partition("@")
    if not MODEL_NAME.fullmatch(model) or (at and not MODEL_NAME.fullmatch(stack)):
        return BadInput(f"model {name[:64]!a} is not MODEL or MODEL@STACK", "MODEL_NAME")
    return ModelUnknown(f"there is no model or path {name!r}")
