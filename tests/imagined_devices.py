"""Stand-ins for devices: what each makes of an answer that was computed exactly."""

import numpy as np

from servepath.protocols.arrays import Array


def as_exported(y: Array) -> Array:
    return y


def off_in_batches(y: Array) -> Array:
    return y + 1e-3 if len(y) > 1 else y


def rounded_as_tf32(y: Array) -> Array:
    """Return float32 numbers with the 10 bits of TF32."""
    bits = np.ascontiguousarray(y, np.float32).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
