"""Names to backends: which model a caller means, and which path of it."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from typing import Generic, TypeVar

from servepath.protocols.deployments import ALL
from servepath.protocols.errors import ModelLoading, ModelNotFound
from servepath.protocols.names import invalid_name_error
from servepath.protocols.stacks import STACKS, Stack
from services.dataplane.backend import Backend, Call, Outcome
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.version_labels import NONE, VersionLabels

T = TypeVar("T")


class ModelRouter:
    """Takes every call to the chain of the model that it names, with the version that its label stands for."""

    def __init__(self, models: Mapping[str, Backend]) -> None:
        """`models`: every name that callers may use -> its model's chain."""
        self.use(models, {})

    def use(self, models: Mapping[str, Backend], paths: Mapping[str, str], labels: VersionLabels = NONE) -> None:
        """Take calls to these chains from now on. `paths`: every name -> the MODEL@STACK that it means.

        Calls count for that until a policy chooses another: what a name means may change before they end.
        """
        self._models = {name: (model, paths.get(name, name)) for name, model in models.items()}
        self._labels = labels

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such model or label."""
        request = call.request
        found = self._models.get(request.model)
        if found is None:
            call.end(invalid_name_error(request.model))
            return
        model, call.name = found
        if request.version_label:
            try:
                version = self._labels.find(request.model, request.version_label)
            except ModelNotFound as error:
                call.end(error)
                return
            call.request = request._replace(version=version, version_label="")
        model.submit(call)

    def ready(self) -> bool:
        """Return whether every model is ready."""
        return all(model.ready() for model, _ in self._models.values())

    async def close(self) -> None:
        """Close every model's chain."""
        for model in {model for model, _ in self._models.values()}:
            await model.close()


class Parts(Generic[T]):
    """0 to 100 % divided into parts, one after another; a key is in the part that holds its hash."""

    def __init__(self, parts: Iterable[tuple[T, float]]) -> None:
        """`parts`: what each is, and percent of it, 100 together."""
        given = [(one, percent) for one, percent in parts if percent]
        self.filled = [one for one, _ in given]
        ends = [end / ALL for end in accumulate(percent for _, percent in given)]
        self._ends = [*ends[:-1], 1.0]  # the last one takes what rounding leaves

    def choose(self, key: str, draw: Callable[[], float]) -> T:
        """Return the part that a key is in, or without a key what is drawn, from 0 to below 1."""
        if len(self.filled) == 1:
            return self.filled[0]
        return self.filled[bisect_right(self._ends, share_of(key) if key else draw())]


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
        self._parts = Parts(parts)
        self.only = self._parts.filled[0] if len(self._parts.filled) == 1 else ""

    def choose(self, call: Call) -> str:
        """Return the path that the call falls to."""
        return self.only or self._parts.choose(call.key, self._draw)

    def submit(self, call: Call) -> None:
        """Pass the call on to the path that it falls to."""
        call.name = self.choose(call)
        self._paths[call.name].submit(call)

    def ready(self) -> bool:
        """Return whether every path that gets calls is ready."""
        return all(self._paths[name].ready() for name in self._parts.filled)

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()


def not_loaded(stack: Stack, version: int) -> str:
    """Return why a version that is exported is not answered by on a stack of ours, and what to do."""
    if stack.which_one_version:
        several = ", ".join(other.name for other in STACKS.values() if not other.which_one_version)
        return (
            f"{stack.name} has not loaded version {version}: it serves one version at a time, "
            f"{stack.which_one_version}; a stack that serves several: {several}"
        )
    how = "it loads all that are exported when it starts, and by RepositoryModelLoad"
    return f"{stack.name} has not loaded version {version}: {how}"


def share_of(key: str) -> float:
    """Return where a key is from 0 to below 1, in every process and for good."""
    # 53 of the 64 bits, which is what a float holds: rounded, the largest would be 1.
    return (int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 11) / 2**53


class VersionSplit:
    """Asks one of several versions of each call that names none, by weights: the same one for each call of one key.

    That key's path is drawn otherwise: else the calls of one version would all be on one of the paths.
    """

    def __init__(
        self, inner: Backend, weights: Iterable[tuple[int, float]], draw: Callable[[], float] = random.random
    ) -> None:
        """`weights`: version and percent, 100 together."""
        self._inner = inner
        self._parts = Parts(weights)
        self._draw = draw

    def submit(self, call: Call) -> None:
        """Pass the call on, with a version."""
        if not call.request.version:
            version = self._parts.choose(call.key and f"version {call.key}", self._draw)
            call.request = call.request._replace(version=version)
        self._inner.submit(call)

    def ready(self) -> bool:
        """Return whether the model is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the model."""
        await self._inner.close()


class VersionCheck:
    """Passes on a path's calls for versions that there are, and says why its server has not loaded one of them."""

    def __init__(self, inner: Backend, artifacts: Artifacts | ExternalArtifacts, stack: Stack) -> None:
        self._inner = inner
        self._artifacts = artifacts
        self._stack = stack

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such version."""
        name, version = call.request.model, call.request.version
        if version:
            if self._artifacts.find(version) is None:
                call.end(ModelNotFound(f"{name} has no version {version}{self._why_none}"))
                return
            call.add_done_callback(partial(self._ended, call))
        self._inner.submit(call)

    @property
    def _why_none(self) -> str:
        return f": {self._stack.name} is an external server, whose versions are its own" if self._stack.external else ""

    def _ended(self, call: Call, outcome: Outcome) -> None:
        if isinstance(outcome, ModelLoading):
            said = ModelLoading(not_loaded(self._stack, call.request.version))
            said.retry_after_ms, said.pushback_ms = outcome.retry_after_ms, outcome.pushback_ms
            call.take_back()
            call.end(said)

    def ready(self) -> bool:
        """Return whether the path is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the path."""
        await self._inner.close()
