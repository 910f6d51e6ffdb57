"""What callers may name beside a model, and the refusal of names; a model's own is in servepath.artifacts.names."""

import re

from servepath.artifacts.names import MODEL_NAME
from servepath.protocols.errors import BadInput, ModelNotFound

CALLED = re.compile(f"{MODEL_NAME.pattern}(@{MODEL_NAME.pattern}(:{MODEL_NAME.pattern})?)?")
# It begins with a letter: no number is one.
VERSION_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
VERSION_LABEL_RULE = "a letter, then letters, digits, '_' and '-', at most 32"


def invalid_name_error(name: str, *, retry_after_ms: int | None = None) -> BadInput | ModelNotFound:
    """Return the error for an invalid or unknown name. retry_after_ms: of an unknown one."""
    if not CALLED.fullmatch(name):
        return BadInput(f"model {name[:64]!a} is not MODEL, MODEL@STACK or MODEL@STACK:PRECISION", "MODEL_NAME")
    return ModelNotFound(f"there is no model or path {name!r}", retry_after_ms=retry_after_ms)
