"""When a path is proven, proven again, refused, and no longer batched."""

from pathlib import Path
from typing import Any

import pytest

from servepath.artifacts.manifest import artifact_folder
from servepath.protocols.errors import BackendBadReply, Internal, Overloaded, ServeError
from servepath.protocols.types import Answer, Request
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.dataplane.batching_controller import WINDOW_CALLS
from services.gateway import golden
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.golden import FILE, FORMAT, Proof
from services.gateway.prover import PathProver
from tests.golden_rows import SERVED, Device, StandIn, make_reference
from tests.imagined_devices import as_exported, off_in_batches, rounded_as_tf32
from tests.tiny_onnx import linear, make_export


@pytest.fixture(autouse=True)
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch be smaller because this machine was busy while a row was timed."""
    monkeypatch.setattr(golden, "BATCHES_S", 3600.0)


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
    monkeypatch.setattr("services.gateway.prover.AGAIN_S", 0.0)
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
    monkeypatch.setattr("services.gateway.prover.PATIENCE_S", 0.0)
    await prover.prove(server.ask, SERVED)
    assert prover.proof is not None
    assert refused in prover.proof.refused
    assert bool(refused) == bool(prover.proof.refused)
    assert f"m@onnx is not proven: {error.text}" in caplog.text
    assert not prover.wanted(SERVED)


async def test_a_proof_that_takes_too_long_is_said_and_the_path_is_ready(
    prover: PathProver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.gateway.prover.PROOF_S", 0.0)
    await prover.prove(StandIn(as_exported).ask, SERVED)
    assert prover.proof == Proof(version=1)
    assert "m@onnx is not proven: it takes more than 0 s" in caplog.text


async def test_whatever_goes_wrong_with_a_proof_is_logged_and_the_path_is_ready(
    prover: PathProver, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Request, __: int) -> Answer:
        raise RuntimeError("a fault of ours")

    await prover.prove(broken, SERVED)
    assert prover.proof == Proof(version=1)
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
    monkeypatch.setattr("services.gateway.prover.PATIENCE_S", 0.0)
    better = StandIn(as_exported, SERVED._replace(engine_version="2"))
    better.error = lambda _: Overloaded("full")
    await prover.prove(better.ask, better.served)
    assert prover.proof == Proof(version=1)


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
    (artifact_folder(tmp_path, "m", FORMAT, 1) / FILE).write_bytes(b"x")
    await prover.prove(StandIn(rounded_as_tf32).ask, SERVED)
    assert prover.proof == Proof(version=1)
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


def test_once_a_server_is_gone_the_way_that_paid_is_taken_first_again(prover: PathProver, batcher: Batcher) -> None:
    for _ in range(2 * WINDOW_CALLS):
        batcher._controller.record(2, 1e-3, waited=True)
    assert not batcher.merges  # the next lap is of lone calls
    prover.forget()
    assert batcher.merges
