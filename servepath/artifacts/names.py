"""What a model may be called: the one rule for all who train, export, configure or load one."""

import argparse
import re
from collections.abc import Mapping
from types import MappingProxyType

# Safe as a file name, a metric label and a part of a URL; `@` parts model and stack.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Names that already mean something where a model's may stand, and what.
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "liveness": "the gateway's own health",
        "readiness": "the gateway's own health",
        "null": "the load test's no-op server",
        "all": "every model",
    }
)


class ModelNameError(ValueError):
    """A name that no model may have; the text names it and says why."""


def check_model_name(name: str) -> None:
    """Raise ModelNameError unless a model may be called `name`."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelNameError(
            f"{name[:64]!r} is no model's name: letters, digits, '.', '_' and '-', at most 128, "
            "the first a letter or digit; rename the model"
        )
    if name in RESERVED:
        raise ModelNameError(f"no model may be called {name!r}, which means {RESERVED[name]}; rename the model")


def model_name(text: str) -> str:
    """Return a model's name from a command line. Raises argparse.ArgumentTypeError where no model may have it."""
    try:
        check_model_name(text)
    except ModelNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
