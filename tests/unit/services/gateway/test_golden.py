"""The proof of a path: what is compared, when a path is refused, and when it is no longer batched.

The stand-ins for servers say so in their names.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from servepath.artifacts.manifest import ArtifactError, artifact_folder
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import Array, from_values, to_array
from servepath.protocols.errors import (
    BackendUnavailable,
    BadInput,
    DeadlineExceeded,
    DeadlineStage,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.probes import fault, probe_request
from servepath.protocols.types import Answer, Provenance, Request
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.gateway import golden
from services.gateway.artifacts import Artifacts
from services.gateway.golden import FILE, FORMAT, GoldenRows, NotYet, PathProver, compared, read_golden
from tests.manifests import SPEC, write_manifest
from tests.tiny_onnx import linear, make_export

ROWS = 5
X = np.linspace(-3, 3, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
WEIGHTS = np.array([[1.0], [2.0]])
SERVED = Provenance("m", "onnx", "stand-in", "1", 1, "ab" * 32, sha256_observed=True)
Device = Callable[[Array], Array]


@pytest.fixture(autouse=True)
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch be smaller because this machine was busy while a row was timed."""
    monkeypatch.setattr(golden, "BATCHES_S", 3600.0)


class StandIn:
    """A stand-in for a server: y = x0 + 2 x1 in float64, and then what a device makes of it, or an error."""

    def __init__(self, device: Device, served: Provenance = SERVED) -> None:
        self.device = device
        self.served = served
        self.batches: list[int] = []
        self.error: Callable[[int], ServeError | None] = lambda _: None

    async def ask(self, request: Request, rows: int) -> Answer | ServeError:
        x = to_array(request.inputs[0])
        assert len(x) == rows
        self.batches.append(rows)
        if (error := self.error(rows)) is not None:
            return error
        y = self.device(x.astype(np.float64) @ WEIGHTS).astype(np.float32)
        return Answer((from_values("y", "FP32", y),), self.served)


def as_exported(y: Array) -> Array:
    return y


def off_in_batches(y: Array) -> Array:
    return y + 1e-3 if len(y) > 1 else y


def rounded_as_tf32(y: Array) -> Array:
    """Return float32 numbers with the 10 bits of TF32."""
    bits = np.ascontiguousarray(y, np.float32).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def reference(exports: Path, version: int = 1, **changed: Array) -> None:
    """Write the golden rows of `m`, in two groups."""
    folder = artifact_folder(exports, "m", FORMAT, version)
    folder.mkdir(parents=True)
    y = X.astype(np.float64) @ WEIGHTS
    arrays = {"x": X, "y": y, "x#1": X[:3], "y#1": y[:3], **changed}
    (folder / FILE).write_bytes(safetensors.numpy.save(arrays))
    write_manifest(folder, "m", FORMAT, version)


def rows(tmp_path: Path, spec: Spec = SPEC) -> GoldenRows:
    reference(tmp_path)
    return read_golden(tmp_path, "m", 1, spec)


async def test_a_server_that_answers_as_the_model_is_proven_alone_and_at_the_limit(tmp_path: Path) -> None:
    server = StandIn(as_exported)
    proof = await rows(tmp_path).prove(server.ask, 64, 2**16)
    assert (proof.fault, proof.why_unbatched) == ("", "")
    assert proof.difference is not None
    assert proof.difference < 1e-6
    assert server.batches == [1, 1, 1, 1, 64, 64]


async def test_a_batch_has_no_more_bytes_than_a_merged_call(tmp_path: Path) -> None:
    server = StandIn(as_exported)
    await rows(tmp_path).prove(server.ask, 64, 80)
    assert server.batches[-2:] == [10, 10]


async def test_a_server_whose_batches_differ_is_not_batched(tmp_path: Path) -> None:
    proof = await rows(tmp_path).prove(StandIn(off_in_batches).ask, 64, 2**16)
    assert proof.fault == ""
    assert proof.why_unbatched.startswith(
        "in a batch of 64 rows, an answer is 0.001 away from the reference, rows alone"
    )


async def test_a_server_that_rounds_to_tf32_is_refused(tmp_path: Path) -> None:
    proof = await rows(tmp_path).prove(StandIn(rounded_as_tf32).ask, 64, 2**16)
    assert "away from the reference, beyond rtol" in proof.fault
    assert "an answer is 0.00" in proof.fault


async def test_a_row_that_is_refused_is_a_fault_and_a_batch_that_is_refused_is_not(tmp_path: Path) -> None:
    golden_rows, server = rows(tmp_path), StandIn(as_exported)
    server.error = lambda count: TooLarge("too large") if count > 1 else None
    assert (await golden_rows.prove(server.ask, 64, 2**16)).why_unbatched == "a batch of 64 rows is refused: too large"
    server.error = lambda _: BadInput("what is x?")
    assert (await golden_rows.prove(server.ask, 64, 2**16)).fault == "a row of the reference is refused: what is x?"


@pytest.mark.parametrize("when", [1, 64])
@pytest.mark.parametrize(
    "error", [BackendUnavailable("down"), Overloaded("full"), DeadlineExceeded(DeadlineStage.IN_BACKEND)]
)
async def test_a_server_that_is_busy_or_gone_proves_nothing(tmp_path: Path, error: ServeError, when: int) -> None:
    server = StandIn(as_exported)
    server.error = lambda count: error if count == when else None
    with pytest.raises(NotYet, match=re.escape(error.text)):
        await rows(tmp_path).prove(server.ask, 64, 2**16)


async def test_without_a_reference_nothing_is_asked(tmp_path: Path) -> None:
    server = StandIn(rounded_as_tf32)
    proof = await read_golden(tmp_path, "m", 1, SPEC).prove(server.ask, 64, 2**16)
    assert (proof, server.batches) == (golden.Proof(), [])


def test_a_reference_that_is_changed_or_lacks_a_tensor_is_no_proof(tmp_path: Path) -> None:
    reference(tmp_path)
    with pytest.raises(ArtifactError, match="has no tensor 'z'"):
        read_golden(tmp_path, "m", 1, replace(SPEC, outputs=(TensorSpec("z", "FP32", ("batch", 1)),)))
    (artifact_folder(tmp_path, "m", FORMAT, 1) / FILE).write_bytes(b"x")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        read_golden(tmp_path, "m", 1, SPEC)


def values(kind: str, seed: int) -> Array:
    random = np.random.default_rng(seed)
    found = random.normal(0, 1, (6, 4))
    if kind in {"INT64", "BOOL"}:
        return np.asarray(found > 0, dtype={"INT64": np.int64, "BOOL": bool}[kind])
    return found


TOLERANCES = [Tolerance(1e-2, 1e-2), Tolerance(cosine=0.999), Tolerance(top_k=1), Tolerance(top_k=2)]


@pytest.mark.parametrize(
    ("tolerance", "odd"), [(each, None) for each in TOLERANCES] + [(TOLERANCES[0], np.nan), (TOLERANCES[0], np.inf)]
)
@pytest.mark.parametrize("kind", ["FP32", "FP16", "FP64", "INT64", "BOOL"])
def test_answers_agree_here_as_they_do_in_a_load_test(tolerance: Tolerance, kind: str, odd: float | None) -> None:
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", kind, ("batch", 4)),), True, tolerance)  # noqa: FBT003
    verdicts = set()
    for seed in range(40):
        wanted = values(kind, seed)
        own = np.array(wanted)
        if own.dtype.kind == "f":
            own *= 1 + np.random.default_rng(seed).normal(0, (0, 1e-3, 3e-2, 9)[seed % 4], own.shape)
            if odd is not None:
                wanted[seed % 6, seed % 4] = odd
                own[seed % 6, (seed + (seed % 3 == 0)) % 4] = odd
        elif seed % 2:
            own[seed % 6, 0] = not own[seed % 6, 0]
        group: Any = {"x": np.zeros((6, 2), np.float32), "y": wanted}
        known = from_values("y", "FP64" if own.dtype.kind == "f" else kind, wanted)
        found = (from_values("y", kind, own),)
        asked = probe_request(golden_reference(spec, group), slice(None))
        right = fault(found, asked.expected) == ""
        assert compared(spec, found, {"y": known})[1] == right, seed
        verdicts.add(right)
    assert verdicts == {True, False}


def golden_reference(spec: Spec, group: Any) -> Any:
    from servepath.artifacts.reference import Reference  # noqa: PLC0415

    return Reference("m", 1, spec, [group])


def test_an_answer_of_another_shape_or_dtype_or_without_an_output_is_none() -> None:
    y = np.ones((2, 1), np.float32)
    wanted = {"y": from_values("y", "FP64", y)}
    assert compared(SPEC, (from_values("y", "FP32", y),), wanted) == (0.0, True)
    for wrong in ((), (from_values("y", "FP64", y),), (from_values("y", "FP32", y[:1]),)):
        assert compared(SPEC, wrong, wanted) == (np.inf, False)


@pytest.fixture
def batcher() -> Batcher:
    backend: Any = None
    return Batcher(backend, BatchLimits(), BatchScope())


@pytest.fixture
def prover(tmp_path: Path, batcher: Batcher) -> PathProver:
    make_export(tmp_path, "m", content=linear(0))
    reference(tmp_path)
    return PathProver(tmp_path, Artifacts(tmp_path, "m", "onnx"), batcher, BatchLimits())


async def test_a_path_is_proven_once_and_again_when_another_answers(prover: PathProver, batcher: Batcher) -> None:
    server = StandIn(off_in_batches)
    assert (await prover.proof(server.ask, SERVED)).why_unbatched
    assert not batcher.merging
    asked = len(server.batches)
    assert (await prover.proof(server.ask, SERVED._replace(backend_us=7))).why_unbatched
    assert len(server.batches) == asked
    better = StandIn(as_exported, SERVED._replace(engine_version="2"))
    assert not (await prover.proof(better.ask, better.served)).why_unbatched
    assert batcher.merging
    prover.forget()
    await prover.proof(better.ask, better.served)
    assert len(better.batches) == 2 * len(set(better.batches)) * 3


async def test_a_refused_path_is_asked_again_after_a_while(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = StandIn(rounded_as_tf32)
    assert (await prover.proof(server.ask, SERVED)).fault
    assert "m@onnx: stand-in 1, version 1, is refused: an answer is" in caplog.text
    server.device = as_exported
    assert (await prover.proof(server.ask, SERVED)).fault
    monkeypatch.setattr(golden, "AGAIN_S", 0.0)
    assert not (await prover.proof(server.ask, SERVED)).fault


async def test_a_version_that_changes_meanwhile_proves_nothing(prover: PathProver) -> None:
    server = StandIn(as_exported, SERVED._replace(version=2))
    with pytest.raises(NotYet, match="another version answers than a moment ago"):
        await prover.proof(server.ask, SERVED)


async def test_a_reference_that_cannot_be_read_is_said_and_refuses_nobody(
    prover: PathProver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (artifact_folder(tmp_path, "m", FORMAT, 1) / FILE).write_bytes(b"x")
    assert await prover.proof(StandIn(rounded_as_tf32).ask, SERVED) == golden.Proof()
    assert "m is not proven: " in caplog.text
