"""How far two served answers may be apart: each of them may be off the reference by its own path's tolerance."""

import math
from dataclasses import replace

from servepath.artifacts.spec import Spec, Tolerance


def between(one: Spec, other: Spec) -> Spec:
    """Return a model's spec for comparing answers of two of its paths, one in the place of the reference."""
    others = {output.name: other.tolerance_of(output) for output in other.outputs}
    outputs = (
        replace(output, tolerance=together(one.tolerance_of(output), others[output.name]))
        for output in one.outputs
        if output.name in others
    )
    return replace(one, outputs=tuple(outputs))


def together(one: Tolerance, other: Tolerance) -> Tolerance:
    """Return how far two answers may be apart that may each be off one reference by their tolerance: the sum.

    Of cosines, that of the sum of the angles; of top_k the larger k. Where the measures are not the same, the first
    that goes by vectors.
    """
    if not (one.by_vector or other.by_vector):
        return Tolerance(one.rtol + other.rtol, one.atol + other.atol)
    if one.cosine is not None and other.cosine is not None:
        return Tolerance(cosine=math.cos(min(math.acos(one.cosine) + math.acos(other.cosine), math.pi)))
    if one.top_k is not None and other.top_k is not None:
        return Tolerance(top_k=max(one.top_k, other.top_k))
    return one if one.by_vector else other
