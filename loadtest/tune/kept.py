"""Which file of an earlier search stays: a confirmed one that still applies, where the new one is not confirmed."""

from pathlib import Path

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols import tuned
from servepath.protocols.tuned import Tuned


def kept(file: Path, made: Tuned, exports: Path) -> Tuned | None:
    """Return what a file has if that stays, and not what was `made` now for the same purpose."""
    if made.confirmed or not file.exists():
        return None
    try:
        found = tuned.read(file)
        tuned.refuse_stale(file, found, exports, made.host, made.default_limits)
    except ArtifactError:
        return None
    same = all(getattr(found, name) == getattr(made, name) for name in ("goal", "slo_p99_ms", "rate_rps", "engine"))
    return found if found.confirmed and same else None
