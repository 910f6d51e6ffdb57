import asyncio
from typing import Any, cast

import pytest

from services.gateway import probe
from services.gateway.probe import Prober
from services.gateway.replica import Replica
from services.serving.backend import Call
from services.wire.signature import Signature
from services.wire.types import Answer, Served
from store.spec import Spec

SPEC = Spec.from_dict(
    {
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1, 1]}],
        "row_independent": True,
        "tolerance": {"atol": 1e-5, "rtol": 1e-5},
    }
)


class MuteReplica:
    """Leaves the first probe without any outcome, as a stopped process finds it, and answers the others."""

    model, stack, ready_now = "alpha", "onnx", True

    def __init__(self) -> None:
        self.states: list[bool] = []

    def submit(self, call: Call) -> None:
        self.states.append(self.ready_now)
        if len(self.states) > 1:
            call.end(Answer((), Served("alpha", "onnx", "", "", 1, "", sha256_observed=False)))


async def test_a_probe_that_never_ends_makes_its_path_not_ready_and_probing_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", -0.95)
    replica: Any = MuteReplica()
    prober = Prober({"alpha": cast("Replica", replica)}, {"alpha": Signature(SPEC)}, 0.01)
    await prober.start()
    async with asyncio.timeout(5):
        while len(replica.states) < 3:
            await asyncio.sleep(0.01)
    await prober.stop()
    assert replica.states[:3] == [True, False, True]
