"""The RPC Compare: one request on every path of a model at the same moment, and how far the answers are apart (ADR 33).

Each path gets the request as Predict would send it there, through the data plane: it is validated, its texts become
ids, it is merged with others' requests, counted in the path's metrics, and waited for when the process ends.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import NamedTuple

import grpc

from servepath.artifacts.spec import EXACT, Spec, TensorSpec, Tolerance
from servepath.protocols import servepath
from servepath.protocols.comparison import ComparedPath, Comparison, Verdict, failure, to_message
from servepath.protocols.errors import BadInput, Draining, ModelNotFound, Overloaded, ServeError, TooLarge
from servepath.protocols.names import invalid_name_error
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane import control
from services.dataplane.backend import Outcome
from services.dataplane.listener import Dispatch, ListenerLimits
from services.gateway.answers import MAX_ELEMENTS, compared
from services.gateway.reload import Reloader
from services.gateway.routes import Path
from services.gateway.tolerances import together
from services.gateway.ulp import ulp_distance

MAX_AT_ONCE = 8
# Of the caller's time, what is kept for comparing and answering: a path that is too slow is told as such.
RESERVE, MAX_RESERVE_S = 0.1, 1.0
# Where every path says one of these, the request is at fault, or this process.
REFUSALS = (BadInput, ModelNotFound, Draining)


class Compare:
    """Answers Compare.

    reloader: has the routes in use. dispatch: the data plane's, which takes Predict.
    """

    def __init__(self, reloader: Reloader, dispatch: Dispatch, limits: ListenerLimits) -> None:
        self._reloader = reloader
        self._dispatch = dispatch
        self._limits = limits
        self._under_way = 0

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers to register on a server."""
        compare = {"Compare": (gateway_pb2.CompareRequest, self.compare)}
        return (control.timed_handlers(servepath.SERVICE, compare),)

    async def compare(
        self, message: gateway_pb2.CompareRequest, remaining_s: float | None
    ) -> gateway_pb2.CompareResponse:
        """Answer what every path says. Raises ServeError where no path takes the request."""
        deadline = self._limits.deadline(remaining_s)
        deadline -= min(RESERVE * (deadline - monotonic()), MAX_RESERVE_S)
        request = servepath.read_request(message)
        paths = self._paths(request.model)
        if self._under_way >= MAX_AT_ONCE:
            raise Overloaded(f"{MAX_AT_ONCE} comparisons are under way; try again later")
        self._under_way += 1
        try:
            said = await self._ask(request, paths, deadline)
        except BaseException:
            self._end()
            raise
        # Off the event loop: 0.1 s for an answer of MAX_ELEMENTS, and as much to write it typed. When the caller
        # leaves, the thread goes on, and is counted until it has ended.
        answering = asyncio.create_task(asyncio.to_thread(lambda: to_message(request, comparison_of(said))))
        answering.add_done_callback(self._end)
        return await asyncio.shield(answering)

    def _end(self, _: object = None) -> None:
        self._under_way -= 1

    def _paths(self, name: str) -> list[Path]:
        """Return every path of a model, the named one or the default one first. Raises BadInput or ModelNotFound."""
        routes = self._reloader.routes
        named = routes.names.get(name)
        if named is None:
            raise invalid_name_error(name)
        return sorted(routes.of(named.model), key=lambda path: path.stack != named.stack)

    async def _ask(self, request: Request, paths: Sequence[Path], deadline: float) -> list["Said"]:
        """Return what every path says. Raises ServeError where no path takes the request."""
        outcomes = await self._outcomes(request, paths, deadline)
        first = outcomes[0]
        if isinstance(first, ServeError) and all(isinstance(outcome, REFUSALS) for outcome in outcomes):
            raise first
        return [_said(*each) for each in zip(paths, outcomes, strict=True)]

    async def _outcomes(self, request: Request, paths: Sequence[Path], deadline: float) -> list[Outcome]:
        calls = [_PredictCall(request, path.name, deadline) for path in paths]
        try:
            self._dispatch(list(calls))
            return await asyncio.gather(*(call.outcome for call in calls))
        finally:
            for call in calls:
                call.cancel()


class _PredictCall:
    """A raw call of Predict on one path, whose outcome is a future."""

    method = servepath.METHOD
    metadata: Mapping[str, str] = {}

    def __init__(self, request: Request, name: str, deadline: float) -> None:
        self.payload = servepath.encode_request(request, name, request.version)
        self.deadline = deadline
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.cancel: Callable[[], None] = lambda: None

    def reply(self, payload: bytes) -> None:
        if not self.outcome.done():
            self.outcome.set_result(servepath.decode_answer(payload))

    def fail(self, error: ServeError) -> None:
        if not self.outcome.done():
            self.outcome.set_result(error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self.cancel = callback


class Said(NamedTuple):
    """What one path said. spec: the contract of the version that answered, as far as it is known."""

    stack: str
    spec: Spec
    outcome: Outcome


def comparison_of(said: Sequence[Said]) -> Comparison[Answer]:
    """Return the comparison with the first answer, of the tolerances that each path has."""
    paths: list[ComparedPath[Answer]] = []
    baseline: tuple[Said, Answer] | None = None
    for each in said:
        if isinstance(each.outcome, ServeError):
            paths.append(ComparedPath(each.stack, Verdict.FAILED, error=failure(each.outcome)))
        else:
            baseline = baseline or (each, each.outcome)
            paths.append(_compared(each, each.outcome, *baseline))
    verdicts = {path.verdict for path in paths}
    worst = next(each for each in (Verdict.DIFFERENT, Verdict.FAILED, Verdict.EQUAL) if each in verdicts)
    return Comparison(worst, baseline[0].stack if baseline else "", tuple(paths))


def _compared(one: Said, answer: Answer, baseline: Said, known: Answer) -> ComparedPath[Answer]:
    outputs = {tensor.name: tensor for tensor in known.outputs}
    allowed = replace(one.spec, outputs=tuple(_allowed(tensor, one.spec, baseline.spec) for tensor in known.outputs))
    difference, wrong = compared(allowed, answer.outputs, outputs, baseline.stack)
    distances = [ulp_distance(tensor, outputs.get(tensor.name, tensor)) for tensor in answer.outputs]
    ulp = max((each for each in distances if each is not None), default=None) if math.isfinite(difference) else None
    verdict = Verdict.DIFFERENT if wrong else Verdict.EQUAL
    return ComparedPath(one.stack, verdict, answer, difference=difference, ulp=ulp, detail=wrong)


def _allowed(tensor: Tensor, spec: Spec, known_spec: Spec) -> TensorSpec:
    tolerance = together(*(_tolerance_of(each, tensor.name) for each in (spec, known_spec)))
    return TensorSpec(tensor.name, tensor.dtype, (), tolerance)


def _tolerance_of(spec: Spec, name: str) -> Tolerance:
    """Return an output's tolerance; labels, which the gateway adds, have none."""
    return next((spec.tolerance_of(output) for output in spec.outputs if output.name == name), EXACT)


def _said(path: Path, outcome: Outcome) -> Said:
    current = path.artifacts.current.spec
    if isinstance(outcome, ServeError):
        return Said(path.stack, current, outcome)
    known = path.artifacts.find_served(outcome.served.version)
    count = sum(math.prod(tensor.shape) for tensor in outcome.outputs)
    if count > MAX_ELEMENTS:
        outcome = TooLarge(f"the answer has {count} elements; at most {MAX_ELEMENTS} are compared")
    return Said(path.stack, known.spec if known else current, outcome)
