"""What deployments.toml says: which models run on which stacks, their defaults and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from servepath.artifacts.spec import Spec
from servepath.protocols.external import ExternalModel
from servepath.protocols.stacks import PATH_STACKS, STACKS, Stack, external_stack

ALL = 100.0  # percent
SHADOW_IN_FLIGHT = 16


class DeploymentsError(Exception):
    """deployments.toml cannot be used; the text names file, line, key and fix."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What the gateway accepts: message size in bytes, deadlines and draining time in seconds.

    max_tensors: inputs or outputs of a model. max_rank: axes of one. max_elements: of one input of a request.
    """

    max_message_bytes: int = 16 * 2**20
    max_tensors: int = 16
    max_rank: int = 8
    max_elements: int = 2**24
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0
    drain_s: float = 25.0
    probe_interval_s: float = 1.0

    def exceeded_by(self, spec: Spec) -> str:
        """Return what of a model is above these limits, as a sentence; nothing where nothing is."""
        tensors = max(len(spec.inputs), len(spec.outputs))
        rank = max((len(tensor.shape) for tensor in spec.inputs + spec.outputs), default=0)
        fixed = [prod(size for size in tensor.shape if isinstance(size, int)) for tensor in spec.inputs]
        for found, what, key, most in (
            (tensors, "inputs or outputs", "max_tensors", self.max_tensors),
            (rank, "axes in one tensor", "max_rank", self.max_rank),
            (max(fixed, default=0), "elements in the smallest input", "max_elements", self.max_elements),
        ):
            if found > most:
                return f"the model has {found} {what}, the gateway takes {most}: raise {key} in [gateway]"
        return ""


@dataclass(frozen=True, slots=True)
class PathLimits:
    """What one path takes: calls at its server at once, calls waiting for that, bytes in one message to its server.

    max_merge_rows, max_merge_bytes: bounds of the calls that waiting ones are merged into; 1 row merges nothing.
    hedge_percent: of the calls may be asked of a second replica where the first is slow; 0 for none.
    """

    max_in_flight: int = 2
    max_queue: int = 1024
    max_merge_rows: int = 64
    max_merge_bytes: int = 64 * 2**10
    max_message_bytes: int = 16 * 2**20
    hedge_percent: int = 0


@dataclass(frozen=True, slots=True)
class Promote:
    """The rule by which a shadow's stack gets more of the calls for its model alone.

    after: equal answers in a row before each step. steps: percent of the calls that the stack has then, rising.
    """

    after: int
    steps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A stack on which calls that other stacks of its model have answered are repeated, and the answers compared.

    percent: of the calls for the model, by any name, that another of its paths answers. max_in_flight: repeated calls
    at once, held ones included; those beyond are dropped. promote: by which rule it gets more of the calls itself, if
    there is one.
    """

    stack: str
    percent: float
    max_in_flight: int = SHADOW_IN_FLIGHT
    promote: Promote | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model: its default stack and the limits of each stack that it runs on.

    external: what those of the stacks that are external servers call it. weights: percent of the calls for the model
    alone that each stack gets; none where the default gets all. fallback: the stacks that such calls go to, one after
    the other, where their own cannot answer. shadow: where calls are repeated, if they are. version_labels: what some
    versions are called. version_weights: percent of the calls for the model alone, without a version, that are asked of
    each labelled one; none where they are answered by the version that the path serves.
    """

    model: str
    default: str
    stacks: Mapping[str, PathLimits]
    external: Mapping[str, ExternalModel] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    fallback: tuple[str, ...] = ()
    shadow: Shadow | None = None
    version_labels: Mapping[str, int] = field(default_factory=dict)
    version_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def called(self) -> tuple[str, ...]:
        """Return the stacks that calls for the model alone may come to, repeated ones too."""
        shared = [stack for stack, share in self.shares.items() if share]
        shadowed = [self.shadow.stack] if self.shadow else []
        return tuple(dict.fromkeys((*shared, *self.fallback, *shadowed)))

    @property
    def shares(self) -> Mapping[str, float]:
        """Return percent of the calls for the model alone, by stack."""
        return self.weights or {self.default: ALL}

    @property
    def split(self) -> Mapping[str, float]:
        """Return the shares of all stacks among which the calls for the model alone are, or may be, split."""
        rising = {self.shadow.stack: 0.0} if self.shadow and self.shadow.promote else {}
        return rising | dict(self.shares) if rising or self.weights else {}

    @property
    def names(self) -> dict[str, str]:
        """Return the names that callers may use, MODEL and MODEL@STACK, and the stack that each means."""
        return {self.model: self.default} | {f"{self.model}@{stack}": stack for stack in self.stacks}


@dataclass(frozen=True, slots=True)
class Deployments:
    """The whole file."""

    file: Path
    gateway: GatewayLimits
    models: tuple[Deployment, ...]

    @property
    def stacks(self) -> dict[str, Stack]:
        """Return every stack that a path may be on, by name: as `servers`, and ours in reduced precisions, too."""
        return {**PATH_STACKS, **self.servers}

    @property
    def servers(self) -> dict[str, Stack]:
        """Return the stacks of this repository by name, then the external servers that a model is on."""
        return {**STACKS, **{name: external_stack(name) for one in self.models for name in one.external}}

    @property
    def external(self) -> dict[tuple[str, str], ExternalModel]:
        """Return what the external servers call the models, by model and stack."""
        return {(one.model, stack): model for one in self.models for stack, model in one.external.items()}

    @property
    def paths(self) -> dict[tuple[str, str], PathLimits]:
        """Return the limits of each path, by model and stack, in the file's order."""
        return {(one.model, stack): limits for one in self.models for stack, limits in one.stacks.items()}

    @property
    def own_stacks(self) -> tuple[Stack, ...]:
        """Return the stacks of STACKS that some model is on, in its order: the servers that have to run here."""
        services = {self.stacks[name].service for one in self.models for name in one.stacks}
        return tuple(stack for stack in STACKS.values() if stack.service in services)
