"""Which file of an earlier search stays: a confirmed one that still applies, where the new one does not replace it."""

from pathlib import Path

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols import tuned
from servepath.protocols.tuned import Tuned


def kept(file: Path, made: Tuned, exports: Path) -> Tuned | None:
    """Return what a file has if that stays, whatever it is for, and not what was `made` now.

    What is confirmed replaces it; that nothing is better than the default, only where it was asked for the same.
    """
    if not file.exists():
        return None
    try:
        found = tuned.read(file)
        tuned.refuse_stale(file, found, exports, made.host, made.default_limits)
    except ArtifactError:
        return None
    if made.confirmed and (not made.best or _asked(made) == _asked(found)):
        return None
    return found if found.confirmed and found.engine == made.engine else None


def _asked(each: Tuned) -> tuple[str, float, float, str]:
    return each.goal, each.slo_p99_ms, each.rate_rps, each.requests
