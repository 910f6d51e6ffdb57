"""What came of a model's shadow calls; held apart from the chain that repeats them, so that it outlives that chain."""

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from servepath.protocols.deployments import Deployment, Shadow
from servepath.protocols.paths import DIFFERENT, EQUAL, VERDICTS
from services.dataplane.counters import CounterSeries
from services.gateway.promotion import Promotion

log = logging.getLogger(__name__)
# Between two lines of the log about differences.
PAUSE_S = 60.0


class Verdicts:
    """The counts of one model's shadow.

    difference: the largest of two numbers. said: what was different or failed last.
    """

    def __init__(
        self, model: str, shadow: Shadow, promotion: Promotion | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """`promotion`: what goes on or back by each verdict, where there is such a rule."""
        self.model, self.shadow = model, shadow
        self.name = f"{model}@{shadow.stack}"
        self.counts = {verdict: CounterSeries() for verdict in VERDICTS}
        self.difference = 0.0
        self.said = ""
        self.promotion = promotion
        self._clock = clock
        self._silent_until = clock()

    def record(self, verdict: str, difference: float = 0.0, said: str = "", *, shared: bool = False) -> None:
        """Count what came of one call.

        shared: it failed together with one that was counted.
        """
        self.counts[verdict].inc()
        self.difference = max(self.difference, difference)
        self.said = said or self.said
        if verdict == DIFFERENT and (now := self._clock()) >= self._silent_until:
            self._silent_until = now + PAUSE_S
            differing = self.counts[DIFFERENT].value
            compared = differing + self.counts[EQUAL].value
            log.error("shadow %s answers differently, %d of %d times: %s", self.name, differing, compared, said)
        if self.promotion is not None:
            self.promotion.record(verdict, said, shared=shared)


class Shadows:
    """The verdicts of each model's shadow.

    Those of one table and weight go on when the chains are built again: from `earlier`, which a build that fails leaves
    as it was.
    """

    def __init__(self, state: Path, earlier: "Shadows | None" = None) -> None:
        """`state`: the folder of what promotions keep."""
        self._state = state
        self._earlier = earlier.known if earlier else {}
        self.known: dict[tuple[str, Shadow, float], Verdicts] = {}

    def find(self, deployment: Deployment, stack: str) -> Verdicts | None:
        """Return the verdicts of a model's shadow, None where it has none on this stack. Raises DeploymentsError."""
        model, shadow = deployment.model, deployment.shadow
        if shadow is None or shadow.stack != stack:
            return None
        key = model, shadow, (weight := deployment.shares.get(stack, 0.0))
        known = self.known.get(key) or self._earlier.get(key)
        if known is None:
            rule = shadow.promote
            promotion = Promotion(model, shadow, rule, weight, self._state) if rule else None
            known = Verdicts(model, shadow, promotion)
        self.known[key] = known
        return known

    def forget(self, later: "Shadows") -> None:
        """End the promotions that are not in use any more, and forget how far models were that have none now."""
        promoted = {verdicts.model for verdicts in later.known.values() if verdicts.promotion}
        kept = {id(verdicts) for verdicts in later.known.values()}
        for verdicts in self.known.values():
            if verdicts.promotion and id(verdicts) not in kept:
                verdicts.promotion.end(forget=verdicts.model not in promoted)

    def weight_of(self, deployment: Deployment, stack: str) -> float:
        """Return percent of the calls for a model alone that a stack gets now. Raises DeploymentsError."""
        weight, shadow = deployment.shares.get(stack, 0.0), deployment.shadow
        verdicts = self.find(deployment, shadow.stack) if shadow else None
        if verdicts is None or verdicts.promotion is None:
            return weight
        promotion = verdicts.promotion
        return promotion.percent if stack == verdicts.shadow.stack else promotion.share_of(weight)
