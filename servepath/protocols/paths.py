"""servepath.v1.Gateway/ListPaths as plain types, for those who ask; what the gateway answers is its own business."""

from typing import NamedTuple

from google.protobuf.message import DecodeError

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.errors import BackendBadReply
from servepath_pb.servepath.v1 import gateway_pb2 as pb

REQUEST = b""  # ListPathsRequest has no fields
# What may come of a call that is repeated on a shadow's path.
VERDICTS = EQUAL, DIFFERENT, FAILED, LATE, DROPPED, SKIPPED = (
    *("equal", "different", "failed", "late", "dropped", "skipped"),
)


class ShadowInfo(NamedTuple):
    """What came of the calls that were repeated on a path; counts since the gateway started.

    percent: of the calls that the model's other paths answer. difference: the largest of two numbers. said: what was
    different or failed last, "" where nothing was. state, step: of one that is promoted by its answers, how far it is,
    and percent of the calls for the model alone that it gets; "" and 0 for all others.
    """

    percent: float
    equal: int
    different: int
    failed: int
    late: int
    dropped: int
    skipped: int
    difference: float
    said: str
    state: str = ""
    step: float = 0.0

    @property
    def text(self) -> str:
        """Return it for people."""
        found = ", ".join(f"{getattr(self, name)} {name}" for name in VERDICTS if getattr(self, name))
        furthest = f", at most {self.difference:.2g} apart" if self.equal or self.different else ""
        said = f" (last: {self.said})" if self.said else ""
        state = f", promotion: {self.state}" if self.state else ""
        return f"shadow of {self.percent:g} %: {found or 'nothing yet'}{furthest}{said}{state}"


class VersionLabel(NamedTuple):
    """What a version of a model is called; percent of the calls for the model alone that are asked of it."""

    label: str
    version: int
    percent: float = 0.0

    @property
    def text(self) -> str:
        """Return it for people."""
        return f"{self.label} is version {self.version}" + (f" ({self.percent:g} %)" if self.percent else "")


class PathInfo(NamedTuple):
    """One deployment path.

    engine, engine_version, precision: empty until it answered once. version, sha256: 0 and empty where its server, an
    external one, does not name them, and likewise precision. labels, max_tokens: of a model that takes texts as well.
    difference: from the model's reference, as the gateway saw it, None until it has. refused, unbatched: why requests
    are refused or not batched by that, "" where they are not. weight: percent of the calls for the model alone.
    fallback: place among the paths that such calls fall back to, 0 where it is none of them. replicas: its servers;
    usable: those that get calls. shadow: of a path on which calls are repeated. versions: that are exported, as far as
    the gateway knows; one_version: its server has one of them at a time. version_labels: what the model's are called.
    """

    model: str
    stack: str
    is_default: bool
    ready: bool
    engine: str
    engine_version: str
    version: int
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = ""
    labels: tuple[str, ...] = ()
    max_tokens: int = 0
    difference: float | None = None
    refused: str = ""
    unbatched: str = ""
    weight: float = 0.0
    fallback: int = 0
    replicas: int = 1
    usable: int = 1
    shadow: ShadowInfo | None = None
    versions: tuple[int, ...] = ()
    one_version: bool = False
    version_labels: tuple[VersionLabel, ...] = ()

    @property
    def name(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"


def decode_answer(payload: bytes) -> tuple[PathInfo, ...]:
    """Read a ListPathsResponse. Raises BackendBadReply."""
    try:
        message = pb.ListPathsResponse.FromString(payload)
    except DecodeError:
        raise BackendBadReply("the reply is not a servepath.v1.ListPathsResponse") from None
    return tuple(_path(path) for path in message.paths)


def _path(path: pb.Path) -> PathInfo:
    return PathInfo(
        model=path.model,
        stack=path.stack,
        is_default=path.is_default,
        ready=path.ready,
        engine=path.engine,
        engine_version=path.engine_version,
        version=path.version,
        sha256=path.sha256,
        inputs=tuple(TensorSpec(t.name, t.dtype, tuple(t.shape)) for t in path.inputs),
        outputs=tuple(TensorSpec(t.name, t.dtype, tuple(t.shape)) for t in path.outputs),
        precision=path.precision,
        labels=tuple(path.labels),
        max_tokens=path.max_tokens,
        difference=path.difference if path.HasField("difference") else None,
        refused=path.refused,
        unbatched=path.unbatched,
        weight=path.weight,
        fallback=path.fallback,
        replicas=path.replicas,
        usable=path.replicas_usable,
        shadow=shadow_info(path.shadow) if path.HasField("shadow") else None,
        versions=tuple(path.versions),
        one_version=path.one_version,
        version_labels=tuple(VersionLabel(each.label, each.version, each.percent) for each in path.version_labels),
    )


def shadow_info(shadow: pb.Shadow) -> ShadowInfo:
    """Return it as a plain type."""
    return ShadowInfo(*(getattr(shadow, name) for name in ShadowInfo._fields))
