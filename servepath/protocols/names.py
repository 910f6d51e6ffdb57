"""The refusal of a name that a caller used; what a model may be called is in servepath.artifacts.names."""

import re

from servepath.artifacts.names import MODEL_NAME
from servepath.protocols.errors import BadInput, ModelNotFound

CALLED = re.compile(f"{MODEL_NAME.pattern}(@{MODEL_NAME.pattern}(:{MODEL_NAME.pattern})?)?")


def invalid_name_error(name: str) -> BadInput | ModelNotFound:
    """Return the error for an invalid or unknown name."""
    if not CALLED.fullmatch(name):
        return BadInput(f"model {name[:64]!a} is not MODEL, MODEL@STACK or MODEL@STACK:PRECISION", "MODEL_NAME")
    return ModelNotFound(f"there is no model or path {name!r}")
