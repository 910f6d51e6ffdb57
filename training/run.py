"""One training run: what was asked for, and what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# (epoch from 1, loss before that epoch's step); raises Diverged.
Watch = Callable[[int, float], None]


class Diverged(Exception):
    """The loss or a weight is not finite any more; the text says at which epoch, and what to do."""


class Unusable(Exception):
    """Something that training starts from cannot be used; the text names it, what is wrong and the fix."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for: epochs of full-batch SGD at the rate lr, from the start that the seed gives."""

    model: str
    epochs: int
    lr: float
    seed: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it.

    losses: mean squared error before each step. weights: the weights file's content. settings: what the framework
    computed with, the dtype of the weights among them.
    """

    losses: Sequence[float]
    weights: bytes
    device: str
    framework_version: str
    settings: Mapping[str, str]
