"""How models and paths may be called, for all who refuse a name."""

import re

from services.wire.errors import BadInput, ModelUnknown

# Safe as a file name, a metric label and a part of a URL; `@` parts model and stack.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def refusal(name: str) -> BadInput | ModelUnknown:
    """Give the error for a name that nothing here has: it cannot be one, or it is unknown."""
    model, at, stack = name.partition("@")
    if not MODEL_NAME.fullmatch(model) or (at and not MODEL_NAME.fullmatch(stack)):
        return BadInput(f"model {name[:64]!a} is not MODEL or MODEL@STACK", "MODEL_NAME")
    return ModelUnknown(f"there is no model or path {name!r}")
