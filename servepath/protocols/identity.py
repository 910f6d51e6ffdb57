"""Who gave an answer, where the replies of a stack do not say it: call metadata, or a file that its service keeps."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from servepath.artifacts.spec import FP32
from servepath.protocols.stacks import Stack
from servepath.protocols.watched import WatchedText

ENGINE_KEY = "x-servepath-engine"
ENGINE_VERSION_KEY = "x-servepath-engine-version"
PRECISION_KEY = "x-servepath-precision"
UNKNOWN = "version not reported"

Trailing = Iterable[tuple[str, str | bytes]] | None
# Engine, engine_version and precision, as Provenance has them.
Named = tuple[str, str, str]
EngineOf = Callable[[Trailing], Named]


def engine_of(stack: Stack, files: Mapping[str, Path]) -> EngineOf:
    """Return what reads engine, engine_version and precision from the trailing metadata of a stack's reply.

    All are empty for a stack whose replies tell. files: those of service_files(); looked at twice a second at most.
    A server whose file is there was started by its service, which keeps it from computing float32 in TF32: it says
    fp32, whatever the model's numbers are; see precision_from.
    """
    identity = stack.identity
    if identity is None:
        return lambda _: ("", "", "")
    version = WatchedText(files[identity.version_file.variable])

    def started() -> Named:
        found = version.text()
        return identity.engine, found or UNKNOWN, FP32 if found else ""

    return lambda trailing: named(trailing) or started()


def named(trailing: Trailing) -> Named | None:
    """Return engine, engine_version and precision as trailing metadata name them, None where they do not."""
    found = dict(trailing or ())
    engine, version, precision = (str(found.get(key, "")) for key in (ENGINE_KEY, ENGINE_VERSION_KEY, PRECISION_KEY))
    return (engine, version, precision) if engine and version else None


def precision_from(said: str, own: str) -> str:
    """Return what an answer was computed in: the model's own precision where its server says that it reduces none."""
    return own if said == FP32 else said
