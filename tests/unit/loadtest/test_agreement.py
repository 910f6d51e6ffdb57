import numpy as np
import pytest

from loadtest.agreement import learned
from loadtest.calls import Clock
from loadtest.payloads import from_reference
from loadtest.targets import no_op_target
from servepath.artifacts.reference import Reference
from tests.manifests import SPEC


def test_an_interruption_ends_the_asking_before_the_next_request() -> None:
    reference = Reference("m", 1, SPEC, [{"x": np.ones((3, 2), np.float32), "y": np.ones((3, 1))}])
    planned = from_reference(reference, rows=1, seed=0)
    nobody = no_op_target("127.0.0.1:1")
    with pytest.raises(KeyboardInterrupt):
        learned(planned, SPEC, nobody, Clock(), lambda: True)
