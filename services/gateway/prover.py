"""Proves a path by golden rows when another server answers, and now and then while something is wrong with it."""

import asyncio
import logging
import math
from pathlib import Path
from time import monotonic

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.errors import ServeError
from servepath.protocols.types import Answer, Provenance, Request
from services.dataplane.batcher import Batcher, BatchLimits
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.golden import Ask, Failing, GoldenRows, NotYet, Proof, read_golden

log = logging.getLogger(__name__)
# How long a server may be busy, or a proof last, before its path counts as ready without one (servepath.runner gives a
# running server 10 s); how often one that is refused or not batched, or was not proven, is asked again.
PATIENCE_S, PROOF_S, AGAIN_S = 8.0, 60.0, 30.0
# A proof, whose it is, whether requests are merged by it, and up to which batches.
Known = tuple[Proof | None, Provenance | None, bool, BatchLimits]


class PathProver:
    """Proves one path, again when another engine or version answers; now and then while something is wrong with it."""

    def __init__(
        self, exports: Path, artifacts: Artifacts | ExternalArtifacts, batcher: Batcher, limits: BatchLimits
    ) -> None:
        self.proof: Proof | None = None
        self._exports = exports
        self._artifacts = artifacts
        self._batcher = batcher
        self._limits = limits
        self._proven: Provenance | None = None
        self._again_at = 0.0
        self._asked_at: float | None = None
        self._lives = 0

    @property
    def known(self) -> Known:
        """Return what is known of the server."""
        return self.proof, self._proven, self._batcher.merging, self._limits

    def believe(self, known: Known) -> None:
        """Take over what is known of the same server, until it is proven with the batches of this path."""
        self.proof, self._proven, merging, limits = known
        within = self._limits.max_rows <= limits.max_rows and self._limits.max_bytes <= limits.max_bytes
        self._batcher.merging = merging and within

    def forget(self) -> None:
        """Prove the path again when it is back: its server may be another one."""
        self._lives += 1
        self.proof = self._proven = self._asked_at = None
        self._batcher.restart()

    def wanted(self, served: Provenance) -> bool:
        """Return whether who answers now has to be proven."""
        return self._proven != _who(served) or monotonic() >= self._again_at

    async def prove(self, ask: Ask, served: Provenance) -> None:
        """Prove who answers now; merging stops or goes on by it. Raises nothing."""
        life, began = self._lives, self._asked_at or monotonic()
        self._asked_at, again_s = began, AGAIN_S
        known = self.proof if self._proven == _who(served) else None
        try:
            async with asyncio.timeout(PROOF_S):
                found = await self._proof(ask, served, known)
        except NotYet as error:
            if monotonic() < began + PATIENCE_S:
                return
            log.warning("%s is not proven: %s", _path(served), error)
            found = known or Proof(refused=str(error) if isinstance(error, Failing) else "", version=served.version)
        except TimeoutError:
            log.warning("%s is not proven: it takes more than %g s", _path(served), PROOF_S)
            found = known or Proof(version=served.version)
        except Exception:
            log.exception("%s is not proven", _path(served))
            found = known or Proof(version=served.version)
        else:
            again_s = AGAIN_S if found.refused or found.unbatched else math.inf
        if life != self._lives:
            return  # the server went meanwhile
        _say(served, found, known)
        self.proof, self._proven, self._asked_at = found, _who(served), None
        self._again_at = monotonic() + again_s
        self._batcher.merging = not found.unbatched

    async def _proof(self, ask: Ask, served: Provenance, known: Proof | None) -> Proof:
        async def ask_same(request: Request, rows: int) -> Answer | ServeError:
            outcome = await ask(request, rows)
            if isinstance(outcome, Answer) and _who(outcome.served) != _who(served):
                raise NotYet("another version answers than a moment ago")
            return outcome

        golden, precision = await asyncio.to_thread(self._golden, served)
        # A verdict on batches is lifted by batches of that size alone, also where the server is slower now.
        least_rows = max(2, known.batch_rows if known else 0)
        limits = self._limits
        found = await golden.prove(ask_same, limits.max_rows, limits.max_bytes, least_rows=least_rows)
        external = isinstance(self._artifacts, ExternalArtifacts)
        if found.refused and external and served.precision not in {"", precision}:
            # Its own choice, which its operator has said; the tolerance is not of that. Nothing is known of batches.
            found = Proof(found.difference, unbatched=f"it computes in {served.precision}: {found.refused}")
        return found._replace(version=served.version)

    def _golden(self, served: Provenance) -> tuple[GoldenRows, str]:
        """Return the golden rows of what answers and its precision; no rows where the reference cannot be read."""
        own = self._artifacts.find_served(served.version) or self._artifacts.current
        try:
            return read_golden(self._exports, own.model, own.version, own.spec), own.spec.precision
        except ArtifactError as error:
            log.warning("%s is not proven: %s", _path(served), error)  # no server can help that
            return GoldenRows(own.model, own.spec, ()), own.spec.precision


def _who(served: Provenance) -> Provenance:
    return served._replace(gateway_us=0, backend_us=0, queue_us=0)


def _path(served: Provenance) -> str:
    return f"{served.model}@{served.stack}"


def _say(served: Provenance, proof: Proof, known: Proof | None) -> None:
    """Log a verdict, unless it is the one that is known."""
    if known and (bool(known.refused), bool(known.unbatched)) == (bool(proof.refused), bool(proof.unbatched)):
        return
    who = f"{_path(served)}: {served.engine} {served.engine_version}, version {served.version}"
    if proof.refused:
        log.error("%s, is refused: %s; check what that server loaded, and on which device", who, proof.refused)
    elif proof.unbatched:
        log.warning("%s: requests are not batched: %s", who, proof.unbatched)
    elif proof.difference is not None:
        log.info("%s is proven: at most %.2g away from the reference", who, proof.difference)
