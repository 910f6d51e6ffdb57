"""What a client does, without I/O: which calls to make, what to send, what the answers mean.

An exchange is a generator that yields the calls to make, takes their replies, or the PredictErrors that they ended
with, and returns the result. The transports in servepath.client.clients drive it, one blocking, one asyncio; they do
nothing else, so the two clients cannot differ.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from grpc import StatusCode

from servepath.artifacts.spec import OPEN, TensorSpec
from servepath.artifacts.text import TEXT
from servepath.client.errors import PredictError
from servepath.protocols import arrays, comparison, paths, servepath
from servepath.protocols.arrays import Array
from servepath.protocols.comparison import Comparison
from servepath.protocols.errors import BackendBadReply, BadInput
from servepath.protocols.paths import PathInfo
from servepath.protocols.types import Answer, Provenance, Request, Tensor


class Rpc(NamedTuple):
    """One call to make. what: names it in errors."""

    method: str
    payload: bytes
    what: str


# What a model of ids takes as well, where it has labels.
TEXTS = (TensorSpec(TEXT, "BYTES", (OPEN,)),)

T = TypeVar("T")
Exchange = Generator[Rpc, bytes, T]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer: arrays by output name, and who computed them."""

    outputs: Mapping[str, Array]
    served: Provenance

    @property
    def output(self) -> Array:
        """Return the only output. Raises ValueError when there are several."""
        if len(self.outputs) != 1:
            raise ValueError(f"the model has the outputs {', '.join(self.outputs)}: choose one from .outputs")
        return next(iter(self.outputs.values()))

    def to_lists(self) -> dict[str, Any]:
        """Return the outputs as nested lists of Python numbers, or of bytes for BYTES, by name."""
        return {name: array.tolist() for name, array in self.outputs.items()}


@dataclass(slots=True)
class Core:
    """Knows the gateway's address and, once asked, what each model takes."""

    address: str
    _inputs: dict[str, tuple[TensorSpec, ...]] = field(default_factory=dict)
    _texts: set[str] = field(default_factory=set)

    def list_paths(self) -> Exchange[tuple[PathInfo, ...]]:
        """Request the list of paths."""
        reply = yield Rpc(servepath.LIST_PATHS, paths.REQUEST, "ListPaths")
        try:
            found = paths.decode_answer(reply)
        except BackendBadReply as error:
            raise self._unusable("ListPaths", error) from error
        inputs = {path.name: path.inputs for path in found}
        inputs |= {path.model: path.inputs for path in found if path.is_default}
        texts = {path.name for path in found if path.labels}
        texts |= {path.model for path in found if path.labels and path.is_default}
        # Another thread may read them now: what it finds the inputs of, it must find the texts of.
        self._texts, self._inputs = texts, inputs
        return found

    def predict(
        self, model: str, inputs: Any, *, version: int | str, outputs: Sequence[str], request_id: str
    ) -> Exchange[Prediction]:
        """Request one prediction."""
        ask = partial(self._predict, version=version, outputs=outputs, request_id=request_id)
        return (yield from self._with_inputs(model, inputs, ask))

    def compare(self, model: str, inputs: Any, *, version: int | str) -> Exchange[Comparison[Prediction]]:
        """Request a comparison of every path of a model."""
        return (yield from self._with_inputs(model, inputs, partial(self._compare, version=version)))

    def _with_inputs(
        self, model: str, inputs: Any, ask: Callable[[str, tuple[Tensor, ...]], Exchange[T]]
    ) -> Exchange[T]:
        """Request something with inputs; before the first time, request what inputs the models take.

        When the inputs are refused, ask again, and once more with what the model takes now, if that is something else:
        since it was asked, another version may have come.
        """
        known = self._inputs.get(model), model in self._texts
        if known[0] is not None:
            try:
                return (yield from ask(model, self._converted(model, inputs)))
            except PredictError as error:
                if not error.reason.startswith("BAD_INPUT."):
                    raise
                yield from self.list_paths()
                if (self._inputs.get(model), model in self._texts) == known:
                    raise
        else:
            yield from self.list_paths()
        return (yield from ask(model, self._converted(model, inputs)))

    def _converted(self, model: str, inputs: Any) -> tuple[Tensor, ...]:
        try:
            return _tensors(inputs, _meant(inputs, self._takes(model), texts=model in self._texts))
        except BadInput as error:
            raise PredictError(f"{model}: {error.text}", StatusCode.INVALID_ARGUMENT, error.reason) from error

    def _compare(
        self, model: str, tensors: tuple[Tensor, ...], *, version: int | str
    ) -> Exchange[Comparison[Prediction]]:
        payload = comparison.encode_request(_request(model, version, tensors))
        reply = yield Rpc(servepath.COMPARE, payload, model)
        try:
            return comparison.decode_answer(reply).converted(_prediction)
        except (BackendBadReply, ValueError) as error:
            raise self._unusable(model, error) from error

    def _predict(
        self, model: str, tensors: tuple[Tensor, ...], *, version: int | str, outputs: Sequence[str], request_id: str
    ) -> Exchange[Prediction]:
        request = _request(model, version, tensors)._replace(outputs=tuple(outputs), request_id=request_id)
        reply = yield Rpc(servepath.METHOD, servepath.encode_request(request, model, request.version), model)
        try:
            return _prediction(servepath.decode_answer(reply))
        except (BackendBadReply, ValueError) as error:
            raise self._unusable(model, error) from error

    def _takes(self, model: str) -> tuple[TensorSpec, ...]:
        try:
            return self._inputs[model]
        except KeyError:
            known = ", ".join(sorted(self._inputs)) or "none"
            text = f"{model}: {self.address} has no such model or path; known: {known}"
            raise PredictError(text, StatusCode.NOT_FOUND, "MODEL_UNKNOWN") from None

    def _unusable(self, what: str, error: Exception) -> PredictError:
        return PredictError(f"{what} at {self.address}: {error}", StatusCode.INTERNAL, "BACKEND_BAD_REPLY")


def _request(model: str, version: int | str, tensors: tuple[Tensor, ...]) -> Request:
    """Return a request of a version, by its number or its label."""
    if isinstance(version, str):
        return Request(model, 0, tensors, version_label=version)
    return Request(model, version, tensors)


def _meant(inputs: Any, takes: tuple[TensorSpec, ...], *, texts: bool) -> tuple[TensorSpec, ...]:
    """Return what inputs are meant for: what the model takes, or its texts, if it takes them. Raises BadInput."""
    if not _are_texts(inputs) or any(spec.dtype == "BYTES" or spec.name == TEXT for spec in takes):
        return takes
    if not texts:
        raise BadInput(f"takes no texts, but {', '.join(spec.name for spec in takes)}", "INPUTS")
    return TEXTS


def _are_texts(inputs: Any) -> bool:
    """Return whether inputs are a list of texts, by name or without."""
    if isinstance(inputs, Mapping):
        return inputs.keys() == {TEXT}
    listed = isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes)
    return listed and bool(inputs) and all(isinstance(each, str) for each in inputs)


def _tensors(inputs: Any, specs: tuple[TensorSpec, ...]) -> tuple[Tensor, ...]:
    """Convert inputs to tensors of the declared dtypes; names and shapes are checked by the gateway."""
    by_name = {spec.name: spec for spec in specs}
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise BadInput(f"takes {', '.join(by_name)}: give a dict of them", "INPUTS")
        inputs = {specs[0].name: inputs}
    unknown = next((name for name in inputs if name not in by_name), None)
    if unknown is not None:
        raise BadInput(f"unexpected input {unknown!r}; the model takes {', '.join(by_name)}", "INPUTS")
    return tuple(arrays.from_values(name, by_name[name].dtype, values) for name, values in inputs.items())


def _prediction(answer: Answer) -> Prediction:
    return Prediction({tensor.name: arrays.to_array(tensor) for tensor in answer.outputs}, answer.served)
