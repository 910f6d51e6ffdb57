"""Which file of an earlier search stays: a confirmed one that still applies, where the new one is not confirmed."""

from pathlib import Path

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols import tuned
from servepath.protocols.tuned import Tuned


def kept(file: Path, made: Tuned, exports: Path) -> Tuned | None:
    """Return what a file has if that stays, whatever it is for, and not what was `made` now."""
    if made.confirmed or not file.exists():
        return None
    try:
        found = tuned.read(file)
        tuned.refuse_stale(file, found, exports, made.host, made.default_limits)
    except ArtifactError:
        return None
    return found if found.confirmed and found.engine == made.engine else None
