"""One line of JSON in the log for each call that got no answer; under load only some, with the number left out.

What a caller sent is never in it, apart from its request_id and the id of its trace.
"""

import json
import logging
from collections.abc import Callable
from time import monotonic

from servepath.protocols.errors import Cancelled, ServeError
from servepath.protocols.status import code_of
from services.dataplane.backend import Call

log = logging.getLogger(__name__)
# Lines of one path and reason in a second; further ones are counted.
LINES_PER_S = 5


class _Quota:
    """What one path and reason may still write in this second."""

    __slots__ = ("left_out", "lines", "second")

    def __init__(self) -> None:
        self.second = -1
        self.lines = 0
        self.left_out = 0


class FailureLog:
    """Writes failures. Paths come from the registry and reasons from our own errors, so their number is bounded."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._quotas: dict[tuple[tuple[str, str], str], _Quota] = {}

    def record(self, path: tuple[str, str], call: Call | None, error: ServeError, total_us: int) -> None:
        """Write a line, or count it as left out: the next one says how many. A caller who went away is no failure."""
        if isinstance(error, Cancelled):
            return
        quota = self._quotas.get((path, error.reason))
        if quota is None:
            quota = self._quotas[path, error.reason] = _Quota()
        if quota.second != (second := int(self._clock())):
            quota.second, quota.lines = second, 0
        if quota.lines >= LINES_PER_S:
            quota.left_out += 1
            return
        quota.lines += 1
        model, stack = path
        fields = {
            "model": model,
            "stack": stack,
            "code": code_of(error).name,
            "reason": error.reason,
            "rows": call.rows if call else 0,
            "total_us": total_us,
            "queue_us": call.queued_ns // 1000 if call else 0,
            "request_id": call.request.request_id if call else "",
            "trace_id": call.trace.trace_id if call and call.trace else "",
            "left_out": quota.left_out,
        }
        quota.left_out = 0
        log.warning("%s", json.dumps(fields))
