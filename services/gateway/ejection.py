"""When a replica gets no calls, since those that it got failed, and when it is asked again."""

from collections.abc import Callable
from time import monotonic

from servepath.protocols.errors import BackendBadReply, BackendMisconfigured, BackendUnavailable, ServeError
from servepath.protocols.types import Answer

FAILURES = 5  # one after the other
FIRST_BACK_OFF_S, MAX_BACK_OFF_S = 1.0, 60.0
# A deadline is not among them: a caller may be impatient. A server that answers nobody fails its probes.
FAULTS = (BackendBadReply, BackendMisconfigured, BackendUnavailable)


class Health:
    """What the calls of callers say of a replica; probes say whether it is ready, and do not count here.

    failures: calls that failed since the last answer. ejected: it gets no calls. back_off_s: how long it is left alone
    then, doubled each time; a second less for each probe that it answers while no call fails. probe_at:
    time.monotonic() of the one probe that decides whether it is back: then a first failure ejects it again. on_failing:
    called with the error after which it should be ejected. probe_s: how long the last answered probe took.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.on_failing: Callable[[ServeError], None] = _nothing
        self.failures = 0
        self.ejected = False
        self.back_off_s = 0.0
        self.probe_at = 0.0
        self.probe_s = 0.0
        self._clock = clock

    def record(self, outcome: Answer | ServeError) -> None:
        """Record what came of a call."""
        if not isinstance(outcome, ServeError):
            self.failures = 0
        elif isinstance(outcome, FAULTS):
            self.failures += 1
            if self.failures >= FAILURES and not self.ejected:
                self.on_failing(outcome)

    def eject(self) -> None:
        """Leave the replica alone."""
        self.ejected = True
        self.back_off_s = min(max(2 * self.back_off_s, FIRST_BACK_OFF_S), MAX_BACK_OFF_S)
        self.probe_at = self._clock() + self.back_off_s

    @property
    def probed(self) -> bool:
        """Return whether it is to be asked now: always, unless it is left alone."""
        return not self.ejected or self._clock() >= self.probe_at

    def record_probe(self, *, answered: bool) -> None:
        """Record a probe: one that is answered brings an ejected replica back, another leaves it alone for longer."""
        if not self.ejected:
            self.back_off_s = max(0.0, self.back_off_s - (answered and not self.failures))
        elif answered:
            self.ejected, self.failures = False, FAILURES - 1
        elif self.probed:
            self.eject()


def _nothing(_: ServeError) -> None:
    pass
