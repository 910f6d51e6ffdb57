"""What a model takes and gives, as training declares it (spec.json) and every manifest repeats it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

BATCH = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: its name, Open Inference Protocol dtype ("FP32") and shape, where -1 is the batch axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read {"name", "dtype", "shape"}. Raises KeyError, TypeError or ValueError."""
        return cls(str(raw["name"]), str(raw["dtype"]), tuple(int(size) for size in raw["shape"]))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an answer may be from the float64 reference: |answer - reference| <= atol + rtol * |reference|."""

    rtol: float
    atol: float

    def limits(self, reference: Any) -> Any:
        """Return how far answers may be from the reference, a number or an array of them."""
        return self.atol + self.rtol * abs(reference)

    def holds(self, answer: Any, reference: Any) -> bool:
        """Return whether an array of answers is within the limits of its reference."""
        return within(answer, reference, self.limits(reference))


def within(answer: Any, reference: Any, limits: Any) -> bool:
    """Return whether two arrays have one shape and no element differs by more than its limit; a NaN always does."""
    return answer.shape == reference.shape and bool((abs(answer - reference) <= limits).all())


@dataclass(frozen=True, slots=True)
class Spec:
    """A model's contract. `row_independent`: a row's answer does not depend on the other rows of its batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    row_independent: bool
    tolerance: Tolerance

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the form that `to_dict` gives. Raises KeyError, TypeError or ValueError."""
        return cls(
            inputs=tuple(TensorSpec.from_dict(tensor) for tensor in raw["inputs"]),
            outputs=tuple(TensorSpec.from_dict(tensor) for tensor in raw["outputs"]),
            row_independent=bool(raw["row_independent"]),
            tolerance=Tolerance(float(raw["tolerance"]["rtol"]), float(raw["tolerance"]["atol"])),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def read_spec(path: Path) -> Spec:
    """Read a spec.json. Raises FileNotFoundError, or ValueError that names the file and what is wrong."""
    try:
        return Spec.from_dict(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a model spec ({error!r}); run: make train") from error
