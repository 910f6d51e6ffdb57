"""Answers taken from one path before the load: what the others must agree with where nobody knows the right ones.

Each of two right answers is within the model's tolerance of the truth, and so within twice that of the other (by
cosine: twice the angle). Of classes, the first path's best one must be among another's k best.
"""

from collections.abc import Callable, Sequence

from loadtest.calls import Caller, Clock, RefusedCallError, Target
from loadtest.payloads import PlannedRequest, encoded
from servepath.artifacts.spec import Spec, Tolerance
from servepath.protocols.arrays import to_array
from servepath.protocols.errors import ServeError
from servepath.protocols.probes import Expected, wanted
from servepath.protocols.signature import Signature
from servepath.protocols.types import Tensor
from servepath.settings import SettingsError

APART = 2


def learned(
    planned: Sequence[PlannedRequest], spec: Spec, target: Target, clock: Clock, interrupted: Callable[[], bool]
) -> list[PlannedRequest]:
    """Return the requests with what a target answers as what must come.

    Raises SettingsError for a request without a usable answer, KeyboardInterrupt once `interrupted` is true.
    """
    signature, caller, known = Signature(spec), Caller(target, clock), []
    try:
        payloads = encoded(planned, target.model, target.encode)
        for number, (one, payload) in enumerate(zip(planned, payloads, strict=True), start=1):
            if interrupted():
                raise KeyboardInterrupt
            try:
                outputs = caller.answer(payload).outputs
                signature.check_answer(outputs, one.rows, ())
            except (RefusedCallError, ServeError) as error:
                said = f"{target.measurement} gave no answer that others could be held to: {error}"
                raise SettingsError(f"request {number} of --payloads: {said}") from error
            known.append(one._replace(expected=tuple(_expected(spec, tensor) for tensor in outputs)))
    finally:
        caller.close()
    return known


def _expected(spec: Spec, answered: Tensor) -> Expected:
    declared = next(tensor for tensor in spec.outputs if tensor.name == answered.name)
    values = wanted(to_array(answered))
    tolerance = spec.tolerance_of(declared)
    limits = APART * tolerance.limits(values)
    if tolerance.cosine is not None:  # of twice the angle
        tolerance = Tolerance(cosine=2 * tolerance.cosine**2 - 1)
    return Expected(answered.name, answered.dtype, answered.shape, values, limits, tolerance)
