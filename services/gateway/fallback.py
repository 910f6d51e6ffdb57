"""The policy that a model's call is answered by another of its paths where its own cannot."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from servepath.protocols.errors import (
    BackendBadReply,
    BackendMisconfigured,
    BackendUnavailable,
    BadInput,
    Cancelled,
    DeadlineExceeded,
    ModelLoading,
    Overloaded,
    ServeError,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Backend, Call, Outcome

# What another server may do better. Not Overloaded: load that one path refuses would take the next one down, too.
ELSEWHERE = (BackendBadReply, BackendMisconfigured, BackendUnavailable, ModelLoading)
# What ends a call that has left its own path.
FINAL = (Cancelled, DeadlineExceeded, Overloaded)
# And one that has not been at its own path, where the request would have been looked at.
FINAL_UNSEEN = (*FINAL, BadInput)
# The name of a path, what it said, and what ends the call then.
Failure = tuple[str, ServeError, tuple[type[ServeError], ...]]


class Router(Protocol):
    """What chooses the path of a call, such as a WeightedRouter."""

    only: str

    def choose(self, call: Call) -> str:
        """Return the MODEL@STACK that a call is for; `only`, where that is not ""."""


class Readiness(Protocol):
    """What knows whether its path can answer, such as a ReplicaSet."""

    ready_now: bool


class Fallback:
    """Takes a call that its path cannot answer on to the next path of its model, within the call's own deadline.

    A path that is not ready is passed over while a later one is ready. on_leave: called with the name of a path that a
    call leaves, or passes over.
    """

    def __init__(
        self,
        router: Router,
        paths: Mapping[str, Backend],
        orders: Mapping[str, Sequence[str]],
        ready: Mapping[str, Readiness],
        on_leave: Callable[[str], None],
    ) -> None:
        """`paths`: MODEL@STACK -> its chain. `ready`: what says it, by MODEL@STACK.

        `orders`: each that may be chosen -> the paths that are tried, itself first.
        """
        self._router = router
        self._paths = paths
        self._orders = orders
        self._ready = ready
        self._on_leave = on_leave

    def submit(self, call: Call) -> None:
        """Pass the call on to the first path that is ready, or, where none is, to its own."""
        name = self._router.only or self._router.choose(call)
        if self._ready[name].ready_now:
            call.name = name
            call.guard(self)
            self._paths[name].submit(call)
        else:
            self._go_on(call, call.request, self._orders[name], None)

    def ready(self) -> bool:
        """Return whether some path is ready, whichever a call is for."""
        return all(any(self._ready[name].ready_now for name in order) for order in self._orders.values())

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()

    def on_error(self, call: Call, request: Request, error: ServeError) -> None:
        """Take a call that its own path has failed to the next one, where that may do better."""
        if isinstance(error, ELSEWHERE):
            self._leave(call, request, self._orders[call.name], (call.name, error, FINAL))

    def _go_on(self, call: Call, request: Request, order: Sequence[str], own: Failure | None) -> None:
        """Send a call to the first path of `order` that is ready; `own` is what the path that it was for has said."""
        name = next((name for name in order if self._ready[name].ready_now), order[0])
        if name != order[0]:
            own = own or (order[0], BackendUnavailable(f"{order[0]} is not ready"), FINAL_UNSEEN)
            self._on_leave(order[0])
        # As its caller sent it: another path's tokenizer may be another one.
        call.request, call.translate, call.name = request, None, name
        call.add_done_callback(partial(self._ended, call, request, order, own))
        self._paths[name].submit(call)

    def _ended(self, call: Call, request: Request, order: Sequence[str], own: Failure | None, outcome: Outcome) -> None:
        if not isinstance(outcome, ServeError):
            return
        # What another path refuses, such as a version that it has not, is not what its own path said.
        if not isinstance(outcome, own[2]) if own else isinstance(outcome, ELSEWHERE):
            self._leave(call, request, order, own or (call.name, outcome, FINAL))

    def _leave(self, call: Call, request: Request, order: Sequence[str], own: Failure) -> None:
        """Take a call to the paths of `order` after its own, or end it by what the path that it was for has said."""
        rest = order[order.index(call.name) + 1 :]
        call.take_back()
        if rest:
            self._on_leave(call.name)
            self._go_on(call, request, rest, own)
        else:
            call.name, error, _ = own
            call.end(error)
