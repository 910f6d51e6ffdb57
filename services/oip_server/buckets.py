"""Batches of few sizes, each of which has been run before anyone calls: on a GPU a batch size's first run takes long.

cuDNN looks for an algorithm at each new size, 8 to 11 ms in its heuristic way and 30 to 80 in its thorough one (one
H200, ONNX Runtime 1.31.1, 2026-11-28), and merging makes every size up to its limit.
"""

import logging
from collections.abc import Sequence

from servepath.protocols.errors import BadInput
from servepath.protocols.tensors import row_offsets
from servepath.protocols.types import Tensor
from services.dataplane.engine import Engine, RunError

log = logging.getLogger(__name__)


class Bucketed:
    """An engine whose batches are filled up to 1, 2, 4, ... rows, at most `max_rows`, with copies of their last row.

    Only for rows that do not depend on each other. A request of more rows is run as it is.
    """

    def __init__(self, engine: Engine, max_rows: int) -> None:
        self.name, self.version = engine.name, engine.version
        self.declared = engine.declared
        self.slow_first_runs = False
        self.sizes = [2**power for power in range(max_rows.bit_length()) if 2**power < max_rows] + [max_rows]
        self._engine = engine

    def warm(self, row: Sequence[Tensor], outputs: Sequence[str]) -> bool:
        """Run every size with copies of the first row of these inputs; return whether all of them run.

        One that does not, and those above it, are no sizes then.
        """
        for place, size in enumerate(self.sizes):
            try:
                self._engine.run([_filled(_cut(tensor, 1), size) for tensor in row], outputs)
            except (BadInput, RunError) as error:
                log.warning("%s does not run %d rows at once, batches have fewer: %s", self.name, size, error)
                self.sizes = self.sizes[:place]
                return False
        return True

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the named outputs. Raises what the engine raises."""
        rows = inputs[0].shape[0]
        size = next((each for each in self.sizes if each >= rows), rows)
        if size == rows or not rows:
            return self._engine.run(inputs, outputs)
        found = self._engine.run([_filled(tensor, size) for tensor in inputs], outputs)
        return tuple(_cut(tensor, rows) for tensor in found)


def _filled(tensor: Tensor, rows: int) -> Tensor:
    ends, missing = row_offsets(tensor), rows - tensor.shape[0]
    last = tensor.data[ends[-2] : ends[-1]]
    return tensor._replace(shape=(rows, *tensor.shape[1:]), data=tensor.data + last * missing)


def _cut(tensor: Tensor, rows: int) -> Tensor:
    return tensor._replace(shape=(rows, *tensor.shape[1:]), data=tensor.data[: row_offsets(tensor)[rows]])
