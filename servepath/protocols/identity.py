"""Who gave an answer, where the replies of a stack do not say it: call metadata, or a file that its service keeps."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from servepath.protocols.stacks import Stack
from servepath.protocols.watched import WatchedText

ENGINE_KEY = "x-servepath-engine"
ENGINE_VERSION_KEY = "x-servepath-engine-version"
UNKNOWN = "version not reported"

Trailing = Iterable[tuple[str, str | bytes]] | None
EngineOf = Callable[[Trailing], tuple[str, str]]


def engine_of(stack: Stack, files: Mapping[str, Path]) -> EngineOf:
    """Return what reads (engine, engine_version) from the trailing metadata of a stack's reply.

    Both are empty for a stack whose replies tell. files: those of service_files(); looked at twice a second at most.
    """
    identity = stack.identity
    if identity is None:
        return lambda _: ("", "")
    version = WatchedText(files[identity.version_file.variable])
    return lambda trailing: named(trailing) or (identity.engine, version.text() or UNKNOWN)


def named(trailing: Trailing) -> tuple[str, str] | None:
    """Return (engine, engine_version) as trailing metadata name them, None where they do not."""
    found = dict(trailing or ())
    names = found.get(ENGINE_KEY), found.get(ENGINE_VERSION_KEY)
    return (str(names[0]), str(names[1])) if all(names) else None
