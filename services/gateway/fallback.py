"""The policy that a model's call is answered by another of its paths where its own cannot."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from servepath.protocols.errors import (
    BackendBadReply,
    BackendMisconfigured,
    BackendUnavailable,
    ModelLoading,
    ModelNotFound,
    ServeError,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Backend, Call, Outcome

# What another server may do better. Not Overloaded: load that one path refuses would take the next one down, too.
ELSEWHERE = (BackendBadReply, BackendMisconfigured, BackendUnavailable, ModelLoading)


class Fallback:
    """Takes a call that its path cannot answer on to the next path of its model, within the call's own deadline.

    A path that is not ready is passed over while a later one is ready. on_leave: called with the name of a path that a
    call leaves, or passes over.
    """

    def __init__(
        self,
        choose: Callable[[Call], str],
        paths: Mapping[str, Backend],
        orders: Mapping[str, Sequence[str]],
        on_leave: Callable[[str], None],
    ) -> None:
        """`choose`: gives the MODEL@STACK that a call is for. `paths`: MODEL@STACK -> its chain.

        `orders`: each that may be chosen -> the paths that are tried, itself first.
        """
        self._choose = choose
        self._paths = paths
        self._orders = orders
        self._on_leave = on_leave

    def submit(self, call: Call) -> None:
        """Pass the call on to the first path that is ready, or, where none is, to its own."""
        self._send(call, call.request, self._orders[self._choose(call)], None)

    def ready(self) -> bool:
        """Return whether some path is ready, whichever a call is for."""
        return all(any(self._paths[name].ready() for name in order) for order in self._orders.values())

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()

    def _send(self, call: Call, request: Request, order: Sequence[str], first: ServeError | None) -> None:
        """Send a call to the first ready path of `order`; `first` is the error of the path that it was for."""
        number = next((number for number, name in enumerate(order) if self._paths[name].ready()), 0)
        if number:
            self._on_leave(order[0])
        name = order[number]
        call.request, call.translate = request._replace(model=name), None
        call.add_done_callback(partial(self._ended, call, request, order[number + 1 :], first))
        self._paths[name].submit(call)

    def _ended(
        self, call: Call, request: Request, rest: Sequence[str], first: ServeError | None, outcome: Outcome
    ) -> None:
        # A version that the call asks for may be on its own path alone.
        missing = first is not None and isinstance(outcome, ModelNotFound)
        if not isinstance(outcome, ServeError) or not (missing or isinstance(outcome, ELSEWHERE)):
            return
        if rest:
            self._on_leave(call.request.model)
            call.take_back()
            self._send(call, request, rest, first or outcome)
        elif first is not None:
            call.take_back()
            call.request = request
            call.end(first)
