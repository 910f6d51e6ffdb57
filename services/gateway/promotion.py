"""The rule that a shadow's stack gets more of its model's calls, step by step, as long as its answers are equal.

At the first difference, or when too many calls fail or are late, the calls go back to where deployments.toml has them,
and the rule stops. Its state is a file, so that a gateway that starts again goes on where it was (ADR 34).
"""

import json
import logging
import os
from collections import deque
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from servepath.artifacts.atomic import write_file
from servepath.protocols.deployments import ALL, Deployments, DeploymentsError, Promote, Shadow
from servepath.protocols.paths import DIFFERENT, EQUAL, FAILED, LATE

log = logging.getLogger(__name__)
# Failed and late calls that are borne: so many in 100 of the last ones, and so many failures anyway.
BORNE_PERCENT, BORNE = 1, 5


class Router(Protocol):
    """What splits a model's calls, such as a WeightedRouter."""

    def shift(self, name: str, percent: float) -> None:
        """Raise one path from its weight to `percent`."""


class Promotion:
    """How far one shadow's stack has been promoted."""

    def __init__(self, model: str, shadow: Shadow, rule: Promote, weight: float, folder: Path) -> None:
        """`weight`: percent that the stack has in deployments.toml. folder: of the state.

        Raises DeploymentsError where that cannot be written.
        """
        self._model, self._name = model, f"{model}@{shadow.stack}"
        self._rule = rule
        self._weight = weight
        self._file = folder / f"{model}.shadow.json"
        self._table = sha256(json.dumps(asdict(shadow), sort_keys=True).encode()).hexdigest()
        self._steps_taken = 0
        self._rolled_back = ""
        self._ended = False
        self._equal = 0
        # Whether each of the last calls failed or was late, and whether by a failure of its own; how many did.
        self._recent: deque[tuple[bool, bool]] = deque(maxlen=rule.after)
        self._bad = self._failures = 0
        # Not one alone: a chain that is being built may never be used, and one that is replaced ends its calls first.
        self._routers: WeakSet[Router] = WeakSet()
        self._check_folder()
        self._read()

    @property
    def percent(self) -> float:
        """Return percent of the calls for the model alone that the stack gets now."""
        taken = 0 if self._rolled_back else self._steps_taken
        return self._rule.steps[taken - 1] if taken else self._weight

    @property
    def state(self) -> str:
        """Return how far it is, for people."""
        if self._rolled_back:
            return f"rolled back: {self._rolled_back}"
        if not self._steps_taken:
            return "waiting"
        return "promoted" if self.percent == ALL else f"at {self.percent:g} %"

    def share_of(self, weight: float) -> float:
        """Return percent of the calls that another stack of the model gets now, which has `weight` in the file."""
        return weight * (ALL - self.percent) / (ALL - self._weight)

    def lead(self, router: Router) -> None:
        """Shift the calls of a router, now and at every step, as long as anybody else has it."""
        self._routers.add(router)
        router.shift(self._name, self.percent)

    def record(self, verdict: str, said: str, *, shared: bool = False) -> None:
        """Go a step on, or back, by what came of one repeated call. One that was not answered breaks no row.

        shared: it failed together with one that was recorded: a lost reply ends all calls that it was merged of.
        """
        if self._rolled_back or self._ended:
            return
        if verdict == DIFFERENT:
            self._roll_back(f"an answer was different: {said}")
        elif verdict in {FAILED, LATE}:
            self._count(bad=True, own=not shared)
            if self._bad > self._rule.after * BORNE_PERCENT / 100 and self._failures > BORNE:
                self._roll_back(f"{self._bad} of the last {len(self._recent)} calls failed or were late")
        elif verdict == EQUAL:
            self._count(bad=False, own=False)
            self._equal += 1
            if self._equal >= self._rule.after and self._steps_taken < len(self._rule.steps):
                self._step()

    def end(self, *, forget: bool) -> None:
        """Go no step any more; `forget`: remove what was kept for a start, since there is no such rule any more."""
        self._ended = True
        try:
            if forget:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s cannot be removed: %s", self._file, error.strerror)  # noqa: TRY400 - the text says it all

    def _count(self, *, bad: bool, own: bool) -> None:
        if len(self._recent) == self._rule.after:
            was_bad, was_own = self._recent[0]
            self._bad -= was_bad
            self._failures -= was_own
        self._recent.append((bad, own))
        self._bad += bad
        self._failures += own

    def _step(self) -> None:
        self._equal = 0
        self._steps_taken += 1
        text = "%s gets %g %% of the calls for %s from now on: %d answers in a row were equal"
        log.warning(text, self._name, self.percent, self._model, self._rule.after)
        self._change()

    def _roll_back(self, why: str) -> None:
        before, self._rolled_back = self.percent, why
        text = "%s goes back from %g %% of the calls for %s to %g %%, and is promoted no more: %s"
        log.error(text, self._name, before, self._model, self.percent, why)
        self._change()

    def _change(self) -> None:
        for router in self._routers:
            router.shift(self._name, self.percent)
        state = {"table": self._table, "steps_taken": self._steps_taken, "rolled_back": self._rolled_back}
        try:
            # On the event loop: some milliseconds, once a step, and nothing goes on by a state that is not kept.
            write_file(self._file, json.dumps(state, indent=2) + "\n")
        except OSError as error:
            log.error("%s cannot be written (%s): a restart would begin again", self._file, error.strerror)  # noqa: TRY400

    def _check_folder(self) -> None:
        folder = self._file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            why = "" if os.access(folder, os.W_OK | os.X_OK) else "no permission"
        except OSError as error:
            why = error.strerror or "unknown"
        if why:
            what = f"[models.{self._model}.shadow.promote] keeps its state in {folder}, which cannot be written ({why})"
            raise DeploymentsError(f"{what}; name another folder with --state or GATEWAY_STATE")

    def _read(self) -> None:
        try:
            state = json.loads(self._file.read_text())
            table, taken, rolled_back = str(state["table"]), int(state["steps_taken"]), str(state["rolled_back"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("%s is ignored: it is no state of a promotion", self._file)
            return
        if table != self._table or not 0 <= taken <= len(self._rule.steps):
            log.warning("%s is ignored: it is of another [models.%s.shadow]", self._file, self._model)
            return
        self._steps_taken, self._rolled_back = taken, rolled_back
        log.info("%s is %s, by %s", self._name, self.state, self._file)


def refuse_promotion(deployments: Deployments) -> None:
    """Raise DeploymentsError where a model is promoted: of several processes, each would count for itself."""
    for deployment in deployments.models:
        if deployment.shadow and deployment.shadow.promote:
            table = f"[models.{deployment.model}.shadow.promote] of {deployments.file}"
            raise DeploymentsError(f"{table} counts answers in one process; start with --workers 1, or remove it")
