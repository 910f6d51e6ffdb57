"""What a model takes and gives, as training declares it (spec.json) and every manifest repeats it."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

# The name of the batch axis: an element of it is a row, what one caller asks for.
BATCH = "batch"
# How files before symbolic axes had the batch axis, and what a runtime says of any open axis.
OPEN = -1
# The dtypes whose elements have fractions.
FRACTIONS = frozenset({"FP16", "BF16", "FP32", "FP64"})
# The relative distance that the coarsest of them, BF16, keeps two numbers apart by.
COARSEST = 2.0**-7
# What float32 numbers are computed in, where nothing else is said.
FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an answer may be from the float64 reference: |answer - reference| <= atol + rtol * |reference|.

    Two other measures take the place of that, each along the last axis. cosine: the least cosine of the angle between a
    vector and its reference, as for embeddings. top_k: the reference's largest element must be among the answer's k
    largest, as for classes; an answer of one value alone has none, unless rounding makes the reference one. Elements
    that are not finite agree with themselves alone, and the others are compared without them.
    """

    rtol: float = 0.0
    atol: float = 0.0
    cosine: float | None = None
    top_k: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read {"rtol", "atol"}, {"cosine"} or {"top_k"}. Raises KeyError, TypeError or ValueError."""
        given = {name: raw[name] for name in ("cosine", "top_k") if raw.get(name) is not None}
        if not given:
            return cls(float(raw["rtol"]), float(raw["atol"]))
        if len(given) > 1 or any(float(raw.get(name, 0)) for name in ("rtol", "atol")):
            raise ValueError("a tolerance is rtol and atol, or cosine, or top_k")
        if "cosine" in given:
            if not 0 < given["cosine"] <= 1:
                raise ValueError(f"cosine is above 0 and at most 1, not {given['cosine']!r}")
            return cls(cosine=float(given["cosine"]))
        if type(given["top_k"]) is not int or given["top_k"] < 1:
            raise ValueError(f"top_k is a whole number from 1, not {given['top_k']!r}")
        return cls(top_k=given["top_k"])

    @property
    def by_vector(self) -> bool:
        """Return whether the last axis is compared as a whole, and not each element for itself."""
        return self.cosine is not None or self.top_k is not None

    def limits(self, reference: Any) -> Any:
        """Return how far answers may be from the reference, a number or an array of them."""
        return self.atol + self.rtol * abs(reference)

    def holds(self, answer: Any, reference: Any) -> bool:
        """Return whether answers agree with their reference, both float64; by vector, they have an axis."""
        if not self.by_vector:
            return within(answer, reference, self.limits(reference))
        if answer.shape != reference.shape or not answer.ndim:
            return False
        if not answer.size:
            return True
        odd = ~((abs(answer) < math.inf) & (abs(reference) < math.inf))
        if bool(odd.any()):
            if not bool(_same(answer[odd], reference[odd]).all()):
                return False
            answer, reference = answer.copy(), reference.copy()
            answer[odd] = reference[odd] = 0.0 if self.cosine is not None else -sys.float_info.max
        if self.cosine is not None:
            one, other = (answer * answer).sum(-1), (reference * reference).sum(-1)
            near = (answer * reference).sum(-1) >= self.cosine * (one * other) ** 0.5
            return bool((near & ((one > 0) == (other > 0))).all())
        best = reference == reference.max(-1)[..., None]
        # Of several that are the reference's largest, the one that the answer has highest.
        highest = answer.max(-1, where=best, initial=-math.inf)[..., None]
        most = self.top_k or 1
        # Ties are honest where numbers are rounded, but one value for all tells nothing.
        alike = (abs(reference - reference[..., :1]) <= COARSEST * abs(reference)).all(-1)
        tells = (answer != answer[..., :1]).any(-1) | alike | (answer.shape[-1] <= most)
        return bool((tells & ((answer > highest).sum(-1) < most)).all())

    def __str__(self) -> str:
        if self.cosine is not None:
            return f"cosine {self.cosine:g}"
        return f"rtol {self.rtol:.3g}, atol {self.atol:.3g}" if self.top_k is None else f"top {self.top_k}"


EXACT = Tolerance(0.0, 0.0)


def within(answer: Any, reference: Any, limits: Any) -> bool:
    """Return whether two arrays have one shape and no element differs by more than its limit.

    A NaN agrees with a NaN alone, and an infinity with itself.
    """
    if answer.shape != reference.shape:
        return False
    # The limit of an infinity would be infinite, and a NaN is within none.
    close = (abs(answer - reference) <= limits) & (abs(reference) < math.inf)
    if bool(close.all()):
        return True
    return bool((close | _same(answer, reference)).all())


def _same(answer: Any, reference: Any) -> Any:
    return (answer == reference) | ((answer != answer) & (reference != reference))  # noqa: PLR0124 - NaN, without numpy


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: its name, Open Inference Protocol dtype ("FP32") and shape.

    An axis is a fixed size or the name of an open one. Axes of one name have one size in a request; "batch" is the
    batch axis. A scalar has no axes. tolerance: an output's own, where it has one.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    tolerance: Tolerance | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read {"name", "dtype", "shape"}; -1 in the first place is the batch axis, too.

        Raises KeyError, TypeError or ValueError.
        """
        shape = tuple(raw["shape"])
        if shape[:1] == (OPEN,):
            shape = (BATCH, *shape[1:])
        for axis in shape:
            if not isinstance(axis, str) and (type(axis) is not int or axis < 0):
                raise ValueError(f"{raw['name']!r}: an axis is a size or a name, not {axis!r}")
        own = raw.get("tolerance")
        return cls(str(raw["name"]), str(raw["dtype"]), shape, None if own is None else Tolerance.from_dict(own))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the shape as runtimes declare it: -1 for every open axis."""
        return tuple(OPEN if isinstance(axis, str) else axis for axis in self.shape)

    @property
    def by_rows(self) -> bool:
        """Return whether the first axis, and no other, is the batch axis."""
        return self.shape[:1] == (BATCH,) and BATCH not in self.shape[1:]


@dataclass(frozen=True, slots=True)
class Spec:
    """A model's contract.

    row_independent: a row's answer does not depend on the other rows of its batch. max_sizes: the largest size of an
    open axis, by its name, where the model has one, such as the words that a text may have. padded: axes, second ones
    of inputs, along which zeros at the end of all inputs, the mask among them, change no answer: so requests of several
    sizes may be merged. precision: what most of the model is computed in, by the dtypes of its weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    row_independent: bool
    tolerance: Tolerance
    max_sizes: Mapping[str, int] = field(default_factory=dict)
    padded: tuple[str, ...] = ()
    precision: str = FP32

    def max_rows(self, most: int) -> int:
        """Return how many rows one call may have that several are merged into: at most `most`, 1 for no merging."""
        return min(most, self.max_sizes.get(BATCH, most)) if self.row_independent else 1

    def tolerance_of(self, output: TensorSpec) -> Tolerance:
        """Return how far an output may be off: nothing where it has no fractions, its own tolerance or the model's."""
        return (output.tolerance or self.tolerance) if output.dtype in FRACTIONS else EXACT

    @property
    def padded_inputs(self) -> frozenset[str]:
        """Return the names of the inputs that have a padded axis."""
        return frozenset(tensor.name for tensor in self.inputs if set(tensor.shape) & set(self.padded))

    @property
    def by_rows(self) -> bool:
        """Return whether every tensor's first axis is the batch axis: only such a model's requests can be cut."""
        return bool(self.inputs) and all(tensor.by_rows for tensor in self.inputs + self.outputs)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the form that `to_dict` gives. Raises KeyError, TypeError or ValueError."""
        spec = cls(
            inputs=tuple(TensorSpec.from_dict(tensor) for tensor in raw["inputs"]),
            outputs=tuple(TensorSpec.from_dict(tensor) for tensor in raw["outputs"]),
            row_independent=bool(raw["row_independent"]),
            tolerance=Tolerance.from_dict(raw["tolerance"]),
            max_sizes={str(axis): int(size) for axis, size in raw.get("max_sizes", {}).items()},
            padded=tuple(str(axis) for axis in raw.get("padded", ())),
            precision=str(raw.get("precision", FP32)),
        )
        if unknown := sorted(spec.max_sizes.keys() - {axis for tensor in spec.inputs for axis in tensor.shape}):
            raise ValueError(f"max_sizes has {unknown[0]!r}, which is no open axis of an input")
        if spec.row_independent and not spec.by_rows:
            raise ValueError("row_independent = true needs the batch axis as the first axis of every tensor")
        if unfit := [axis for axis in spec.padded if not (spec.row_independent and spec.may_pad(axis))]:
            raise ValueError(f"padded has {unfit[0]!r}, which is no second axis of inputs alone, of independent rows")
        return spec

    def may_pad(self, axis: str) -> bool:
        """Return whether an axis is the second one of every input that has it, of numbers all, and of no output."""
        having = [tensor for tensor in self.inputs if axis in tensor.shape]
        second = all(tensor.shape[1:2] == (axis,) and axis not in tensor.shape[2:] for tensor in having)
        numbers = all(tensor.dtype != "BYTES" for tensor in having)
        return bool(having) and second and numbers and all(axis not in tensor.shape for tensor in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; without what is as files from before had it: no max_sizes, no padded, in float32."""
        usual = {"max_sizes": {}, "padded": (), "precision": FP32}
        return {key: value for key, value in asdict(self).items() if key not in usual or value != usual[key]}


def read_spec(path: Path) -> Spec:
    """Read a spec.json. Raises FileNotFoundError, or ValueError that names the file and what is wrong."""
    try:
        return Spec.from_dict(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a model spec ({error!r}); run: make train") from error
