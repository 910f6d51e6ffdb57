"""Whether batching pays, found out by trying both.

A single call's duration does not say: under load it holds the waiting behind whatever else is in flight. So laps of a
few calls are compared, all merged or all alone: the time in which the path was busy, divided by the bytes of the
requests answered. Rows would not do: those of texts take as long as they are.
"""

WINDOW_CALLS = 16
# Merging has to bring a byte for less than this part of what it costs alone, or the copies are for nothing.
MAX_COST_RATIO = 0.95
# A lap in which fewer of the calls had waited says nothing: there was little to merge.
MIN_WAITED_SHARE = 1 / 4
# Laps between two trials of the way that did not pay; doubled while a trial confirms that, up to MAX_INTERVAL. Merging
# is tried again sooner: where it would pay after all, calls pile up meanwhile.
FIRST_INTERVAL = 8
MAX_INTERVAL = {True: 64, False: 512}


class BatchingController:
    """Decides between batching and not; batching until there is evidence.

    batching: what the next call should do. settle: calls in flight when the way changes, which belong to the way
    before.
    """

    def __init__(self, settle: int) -> None:
        self._settle = settle
        self._cost_s: dict[bool, float] = {}
        self._pays = True
        self._interval = FIRST_INTERVAL
        self._windows = 0
        self.merging = True
        self.restart()

    def restart(self) -> None:
        """Leave the next calls out, as those of a server that has just started; what is known to pay is kept."""
        self._begin(merging=self._pays)
        self._calls = -WINDOW_CALLS  # they load and compile what it needs

    def record(self, answered: int, busy_s: float, *, waited: bool) -> None:
        """Record the end of a call that had waited, or not.

        answered: bytes of its requests, 0 for a failure. busy_s: seconds in which the path was busy since the last end.
        """
        if not answered and self._calls < 0:
            return  # a call that failed has loaded nothing
        self._calls += 1
        if self._calls <= 0:
            return
        self._answered += answered
        self._busy_s += busy_s
        self._waited += waited
        if self._calls == WINDOW_CALLS:
            self._end_window()

    def _begin(self, *, merging: bool) -> None:
        self._calls = 0 if merging is self.merging else -self._settle
        self.merging = merging
        self._answered = self._waited = 0
        self._busy_s = 0.0

    def _end_window(self) -> None:
        if not self._answered or self._waited < MIN_WAITED_SHARE * WINDOW_CALLS:
            self._begin(merging=self._pays)
            return
        cost_s = self._busy_s / self._answered
        # Of the way that is tried again the last lap alone: the ones before are of a server that may have been another,
        # such as a JVM that was about to compile.
        before_s = self._cost_s.get(self.merging, cost_s) if self.merging is self._pays else cost_s
        self._cost_s[self.merging] = (before_s + cost_s) / 2
        if len(self._cost_s) == 1:
            self._begin(merging=not self.merging)
        else:
            self._judge()

    def _judge(self) -> None:
        pays = self._cost_s[True] < self._cost_s[False] * MAX_COST_RATIO
        if pays is not self._pays:
            self._interval, self._windows = FIRST_INTERVAL, 0
        elif self.merging is not pays:
            self._interval = min(2 * self._interval, MAX_INTERVAL[self.merging])
        self._pays = pays
        self._windows = self._windows + 1 if self.merging is pays else 0
        self._begin(merging=pays if self._windows < self._interval else not pays)
