"""Which of a model's tensors is which of its spec's: by name, never by the order in which an exporter lists them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from export.errors import ExportError
from servepath.artifacts.spec import TensorSpec

Value = TypeVar("Value")


def match(what: str, found: Sequence[tuple[str, Value]], tensors: Sequence[TensorSpec]) -> Mapping[str, Value]:
    """Return what was found under the spec's names, in the spec's order; a single tensor may have any name.

    what: "inputs" or "outputs", for the error. Raises ExportError unless the names are the spec's, each once.
    """
    names, promised = [name for name, _ in found], [tensor.name for tensor in tensors]
    if len(names) == len(promised) == 1:
        return {promised[0]: found[0][1]}
    if sorted(names) != sorted(promised):
        said = ", ".join(names) or "nameless"
        raise ExportError(f"the model's {what} are {said}, its spec says {', '.join(promised)}; name them alike")
    values = dict(found)
    return {name: values[name] for name in promised}
