"""Names to backends: which model a caller means, and which path of it."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from itertools import accumulate

from servepath.protocols.deployments import ALL
from servepath.protocols.errors import ModelNotFound
from servepath.protocols.names import invalid_name_error
from services.dataplane.backend import Backend, Call
from services.gateway.artifacts import Artifacts, ExternalArtifacts


class ModelRouter:
    """Takes every call to the chain of the model that it names."""

    def __init__(self, models: Mapping[str, Backend]) -> None:
        """`models`: every name that callers may use -> its model's chain."""
        self._models = models

    def use(self, models: Mapping[str, Backend]) -> None:
        """Take calls to these chains from now on."""
        self._models = models

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such model."""
        model = self._models.get(call.request.model)
        if model is None:
            call.end(invalid_name_error(call.request.model))
        else:
            model.submit(call)

    def ready(self) -> bool:
        """Return whether every model is ready."""
        return all(model.ready() for model in self._models.values())

    async def close(self) -> None:
        """Close every model's chain."""
        for model in set(self._models.values()):
            await model.close()


class WeightedRouter:
    """Takes a model's calls to its paths by their weights: those of one key to one path, others as it is drawn.

    A key is on the path whose part of 0 to 100 % holds its hash, so that a change of weights moves no more keys than it
    must. Each call goes on under its path's name. A path that `shift` raises takes the end of every other one's part:
    keys move to it alone, and each is back at its place when the path goes back. only: the path that gets all calls, or
    "" where several get some.
    """

    def __init__(
        self, paths: Mapping[str, Backend], weights: Mapping[str, float], draw: Callable[[], float] = random.random
    ) -> None:
        """`paths`: MODEL@STACK -> its chain. `weights`: the same names -> percent, 100 together."""
        self._paths = paths
        self._weights = weights
        self._draw = draw
        self._divide(weights.items())

    def shift(self, name: str, percent: float) -> None:
        """Raise one path from its weight, below 100, to `percent`, which the others give in proportion to theirs."""
        kept = (ALL - percent) / (ALL - self._weights[name])
        parts = []
        for other, weight in self._weights.items():
            own = weight if other == name else weight * kept
            parts += [(other, own), (name, weight - own)]
        self._divide(parts)

    def _divide(self, parts: Iterable[tuple[str, float]]) -> None:
        """Divide 0 to 100 % into the parts of these paths, one after another."""
        given = [(name, percent) for name, percent in parts if percent]
        self._names = [name for name, _ in given]
        ends = [end / ALL for end in accumulate(percent for _, percent in given)]
        self._ends = [*ends[:-1], 1.0]  # the last one takes what rounding leaves
        self.only = self._names[0] if len(self._names) == 1 else ""

    def choose(self, call: Call) -> str:
        """Return the path that the call falls to."""
        return self.only or self._names[bisect_right(self._ends, share_of(call.key) if call.key else self._draw())]

    def submit(self, call: Call) -> None:
        """Pass the call on to the path that it falls to."""
        call.name = self.choose(call)
        self._paths[call.name].submit(call)

    def ready(self) -> bool:
        """Return whether every path that gets calls is ready."""
        return all(self._paths[name].ready() for name in self._names)

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()


def share_of(key: str) -> float:
    """Return where a key is from 0 to below 1, in every process and for good."""
    # 53 of the 64 bits, which is what a float holds: rounded, the largest would be 1.
    return (int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 11) / 2**53


class VersionCheck:
    """Passes on a path's calls for versions that there are."""

    def __init__(self, inner: Backend, artifacts: Artifacts | ExternalArtifacts) -> None:
        self._inner = inner
        self._artifacts = artifacts

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such version."""
        name, version = call.request.model, call.request.version
        if version and self._artifacts.find(version) is None:
            call.end(ModelNotFound(f"{name} has no version {version}"))
        else:
            self._inner.submit(call)

    def ready(self) -> bool:
        """Return whether the path is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the path."""
        await self._inner.close()
