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

from servepath.artifacts.manifest import ArtifactError, artifact_folder
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import Array, from_values, to_array
from servepath.protocols.errors import (
    BackendBadReply,
    BackendUnavailable,
    BadInput,
    DeadlineExceeded,
    DeadlineStage,
    Internal,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.probes import fault, probe_request
from servepath.protocols.types import Answer, Provenance, Request
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.gateway import golden
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.golden import FILE, FORMAT, GoldenRows, NotYet, PathProver, compared, read_golden
from tests.golden_rows import WEIGHTS, make_reference
from tests.imagined_devices import as_exported, off_in_batches, rounded_as_tf32
from tests.manifests import SPEC
from tests.tiny_onnx import linear, make_export

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


def golden_file(exports: Path) -> Path:
    return artifact_folder(exports, "m", FORMAT, 1) / FILE


def rows(tmp_path: Path, spec: Spec = SPEC) -> GoldenRows:
    make_reference(tmp_path, "m")
    return read_golden(tmp_path, "m", 1, spec)


async def test_a_server_that_answers_as_the_model_is_proven_alone_and_at_the_limit(tmp_path: Path) -> None:
    server = StandIn(as_exported)
    proof = await rows(tmp_path).prove(server.ask, 64, 2**16)
    assert (proof.refused, proof.unbatched) == ("", "")
    assert proof.difference is not None
    assert proof.difference < 1e-6
    assert server.batches == [1, 1, 1, 1, 64, 64]


@pytest.mark.parametrize(("max_bytes", "batches"), [(80, [10, 10]), (15, [])])
async def test_a_batch_has_no_more_bytes_than_a_merged_call(tmp_path: Path, max_bytes: int, batches: list[int]) -> None:
    server = StandIn(as_exported)
    await rows(tmp_path).prove(server.ask, 64, max_bytes)
    assert server.batches == [1, 1, 1, 1, *batches]


async def test_a_server_whose_batches_differ_is_not_batched(tmp_path: Path) -> None:
    proof = await rows(tmp_path).prove(StandIn(off_in_batches).ask, 64, 2**16)
    assert proof.refused == ""
    assert proof.unbatched.startswith("in a batch of 64 rows, output 'y' is [")
    assert proof.unbatched.endswith(": 0.001 apart, beyond rtol 1e-05, atol 1e-05; rows alone are right")


async def test_a_server_that_rounds_to_tf32_is_refused(tmp_path: Path) -> None:
    proof = await rows(tmp_path).prove(StandIn(rounded_as_tf32).ask, 64, 2**16)
    assert "the reference says [" in proof.refused
    assert "apart, beyond rtol" in proof.refused


async def test_a_row_that_a_server_does_not_take_says_nothing_of_others(tmp_path: Path) -> None:
    golden_rows, server = rows(tmp_path), StandIn(as_exported)
    server.error = lambda _: BadInput("longer than I take") if len(server.batches) < 2 else None
    proof = await golden_rows.prove(server.ask, 64, 2**16)
    assert proof.difference is not None
    assert proof == golden.Proof(proof.difference)
    assert server.batches == [1, 1, 1, 64]
    server.error = lambda _: TooLarge("too large")
    assert await golden_rows.prove(server.ask, 64, 2**16) == golden.Proof()


async def test_a_batch_that_is_refused_is_not_sent(tmp_path: Path) -> None:
    golden_rows, server = rows(tmp_path), StandIn(as_exported)
    server.error = lambda count: TooLarge("too large") if count > 1 else None
    assert (await golden_rows.prove(server.ask, 64, 2**16)).unbatched == "a batch of 64 rows is refused: too large"


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
    make_reference(tmp_path, "m")
    with pytest.raises(ArtifactError, match="has no tensor 'z'"):
        read_golden(tmp_path, "m", 1, replace(SPEC, outputs=(TensorSpec("z", "FP32", ("batch", 1)),)))
    golden_file(tmp_path).write_bytes(b"x")
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
        assert (compared(spec, found, {"y": known})[1] == "") == right, seed
        verdicts.add(right)
    assert verdicts == {True, False}


def golden_reference(spec: Spec, group: Any) -> Any:
    from servepath.artifacts.reference import Reference  # noqa: PLC0415

    return Reference("m", 1, spec, [group])


def test_an_answer_of_another_shape_or_dtype_or_without_an_output_is_none() -> None:
    y = np.ones((2, 1), np.float32)
    wanted = {"y": from_values("y", "FP64", y)}
    assert compared(SPEC, (from_values("y", "FP32", y),), wanted) == (0.0, "")
    for wrong, shown in (
        ((), "missing"),
        ((from_values("y", "FP64", y),), "FP64 [2, 1]"),
        ((from_values("y", "FP32", y[:1]),), "FP32 [1, 1]"),
    ):
        assert compared(SPEC, wrong, wanted) == (np.inf, f"output 'y' is {shown}, expected FP32 [2, 1]")


def test_a_vector_of_an_open_axis_is_one_row() -> None:
    tensor, tolerance = TensorSpec("y", "FP32", ("batch", "words")), Tolerance(top_k=1)
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (tensor,), row_independent=True, tolerance=tolerance)
    right, wrong = np.float32([[9, 1], [1, 2]]), np.float32([[9, 1], [2, 1]])
    wanted = {"y": from_values("y", "FP64", right.astype(np.float64))}
    assert compared(spec, (from_values("y", "FP32", right),), wanted)[1] == ""
    assert "beyond top 1" in compared(spec, (from_values("y", "FP32", wrong),), wanted)[1]


@pytest.fixture
def batcher() -> Batcher:
    backend: Any = None
    return Batcher(backend, BatchLimits(), BatchScope())


@pytest.fixture
def prover(tmp_path: Path, batcher: Batcher) -> PathProver:
    make_export(tmp_path, "m", content=linear(0))
    make_reference(tmp_path, "m")
    return PathProver(tmp_path, Artifacts(tmp_path, "m", "onnx"), batcher, BatchLimits())


async def test_a_path_is_proven_once_and_again_when_another_answers(prover: PathProver, batcher: Batcher) -> None:
    server = StandIn(off_in_batches)
    assert prover.wanted(SERVED)
    await prover.prove(server.ask, SERVED)
    assert prover.proof is not None
    assert prover.proof.unbatched
    assert not batcher.merging
    assert not prover.wanted(SERVED._replace(backend_us=7))
    better = StandIn(as_exported, SERVED._replace(engine_version="2"))
    assert prover.wanted(better.served)
    await prover.prove(better.ask, better.served)
    assert batcher.merging
    assert better.batches == [1, 1, 1, 1, 64, 64]
    prover.forget()
    assert prover.proof is None
    assert prover.wanted(better.served)


@pytest.mark.parametrize("device", [rounded_as_tf32, off_in_batches])
async def test_a_path_that_something_is_wrong_with_is_asked_again_after_a_while(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    monkeypatch.setattr(golden, "AGAIN_S", 0.0)
    server = StandIn(device)
    await prover.prove(server.ask, SERVED)
    assert prover.proof is not None
    assert prover.proof.refused or prover.proof.unbatched
    assert prover.wanted(SERVED)
    server.device = as_exported
    await prover.prove(server.ask, SERVED)
    assert (prover.proof.refused, prover.proof.unbatched) == ("", "")
    assert not prover.wanted(SERVED)


async def test_a_refusal_is_said_once_by_name(prover: PathProver, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await prover.prove(StandIn(rounded_as_tf32).ask, SERVED)
    assert caplog.text.count("m@onnx: stand-in 1, version 1, is refused: output 'y' is [") == 1


async def test_a_version_that_changes_meanwhile_is_proven_the_next_time(prover: PathProver) -> None:
    server = StandIn(as_exported, SERVED._replace(version=2))
    await prover.prove(server.ask, SERVED)
    assert prover.proof is None
    assert prover.wanted(SERVED)


@pytest.mark.parametrize(
    ("error", "refused"),
    [(Overloaded("full"), ""), (BackendBadReply("it failed"), "it failed"), (Internal(), "internal")],
)
async def test_a_server_that_stays_busy_is_ready_without_a_proof_and_one_that_fails_is_not(
    prover: PathProver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: ServeError,
    refused: str,
) -> None:
    server = StandIn(as_exported)
    server.error = lambda _: error
    await prover.prove(server.ask, SERVED)
    assert prover.proof is None
    monkeypatch.setattr(golden, "PATIENCE_S", 0.0)
    await prover.prove(server.ask, SERVED)
    assert prover.proof is not None
    assert refused in prover.proof.refused
    assert bool(refused) == bool(prover.proof.refused)
    assert f"m@onnx is not proven: {error.text}" in caplog.text
    assert not prover.wanted(SERVED)


async def test_a_proof_that_takes_too_long_is_said_and_the_path_is_ready(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(golden, "PROOF_S", 0.0)
    await prover.prove(StandIn(as_exported).ask, SERVED)
    assert prover.proof == golden.Proof(version=1)
    assert "m@onnx is not proven: it takes more than 0 s" in caplog.text


async def test_whatever_goes_wrong_with_a_proof_is_logged_and_the_path_is_ready(
    prover: PathProver, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Request, __: int) -> Answer:
        raise RuntimeError("a fault of ours")

    await prover.prove(broken, SERVED)
    assert prover.proof == golden.Proof(version=1)
    assert "a fault of ours" in caplog.text


async def test_a_proof_of_a_server_that_went_meanwhile_is_none(prover: PathProver, batcher: Batcher) -> None:
    server = StandIn(off_in_batches)

    async def gone(request: Request, count: int) -> Answer | ServeError:
        prover.forget()
        return await server.ask(request, count)

    await prover.prove(gone, SERVED)
    assert prover.proof is None
    assert prover.wanted(SERVED)
    assert batcher.merging
    server.error = lambda _: Overloaded("full")
    await prover.prove(gone, SERVED)
    assert prover.proof is None


async def test_a_new_version_does_not_inherit_the_verdict_on_the_old_one(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prover.prove(StandIn(rounded_as_tf32).ask, SERVED)
    monkeypatch.setattr(golden, "PATIENCE_S", 0.0)
    better = StandIn(as_exported, SERVED._replace(engine_version="2"))
    better.error = lambda _: Overloaded("full")
    await prover.prove(better.ask, better.served)
    assert prover.proof == golden.Proof(version=1)


async def test_batches_are_sent_again_when_one_as_large_as_the_wrong_one_is_right(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch, batcher: Batcher
) -> None:
    server = StandIn(lambda y: y + 1e-3 if len(y) > 32 else y)
    await prover.prove(server.ask, SERVED)
    assert not batcher.merging
    monkeypatch.setattr(golden, "BATCHES_S", 0.0)  # as of a server that is slow now
    await prover.prove(server.ask, SERVED)
    assert not batcher.merging
    assert prover.proof is not None
    assert prover.proof.batch_rows == 64
    server.device = as_exported
    await prover.prove(server.ask, SERVED)
    assert batcher.merging


@pytest.mark.parametrize(("external", "refused"), [(True, False), (False, True)])
async def test_an_external_server_of_another_precision_is_not_held_to_ours(
    tmp_path: Path, batcher: Batcher, *, external: bool, refused: bool
) -> None:
    make_export(tmp_path, "m", content=linear(0))
    make_reference(tmp_path, "m")
    artifacts = ExternalArtifacts(tmp_path, "m") if external else Artifacts(tmp_path, "m", "onnx")
    prover, served = PathProver(tmp_path, artifacts, batcher, BatchLimits()), SERVED._replace(precision="tf32")
    await prover.prove(StandIn(rounded_as_tf32, served).ask, served)
    assert prover.proof is not None
    assert bool(prover.proof.refused) == refused
    assert prover.proof.difference is not None
    assert batcher.merging == refused
    assert prover.proof.unbatched.startswith("it computes in tf32: output 'y' is [") == external


async def test_a_reference_that_cannot_be_read_is_said_and_refuses_nobody(
    prover: PathProver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    golden_file(tmp_path).write_bytes(b"x")
    await prover.prove(StandIn(rounded_as_tf32).ask, SERVED)
    assert prover.proof == golden.Proof(version=1)
    assert "m@onnx is not proven: " in caplog.text


@pytest.mark.parametrize(("rows", "merging"), [(64, True), (65, False)])
async def test_a_successor_merges_no_more_than_was_proven_until_it_is_proven_itself(
    tmp_path: Path,
    prover: PathProver,
    rows: int,
    merging: bool,  # noqa: FBT001
) -> None:
    await prover.prove(StandIn(as_exported).ask, SERVED)
    backend: Any = None
    limits = BatchLimits(max_rows=rows)
    batcher = Batcher(backend, limits, BatchScope())
    successor = PathProver(tmp_path, Artifacts(tmp_path, "m", "onnx"), batcher, limits)
    successor.believe(prover.known)
    assert (successor.proof, batcher.merging) == (prover.proof, merging)
    assert successor.wanted(SERVED)
    await successor.prove(StandIn(as_exported).ask, SERVED)
    assert batcher.merging
