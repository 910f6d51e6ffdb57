"""The proof of a server: what it is asked, and what its answers to golden rows show."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.spec import Spec, TensorSpec
from servepath.protocols.errors import (
    BackendUnavailable,
    BadInput,
    DeadlineExceeded,
    DeadlineStage,
    Overloaded,
    ServeError,
    TooLarge,
)
from services.gateway import golden
from services.gateway.golden import GoldenRows, NotYet, read_golden
from tests.golden_rows import StandIn, make_reference
from tests.imagined_devices import as_exported, off_in_batches, rounded_as_tf32
from tests.manifests import SPEC


@pytest.fixture(autouse=True)
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch be smaller because this machine was busy while a row was timed."""
    monkeypatch.setattr(golden, "BATCHES_S", 3600.0)


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
    file = make_reference(tmp_path, "m")
    with pytest.raises(ArtifactError, match="has no tensor 'z'"):
        read_golden(tmp_path, "m", 1, replace(SPEC, outputs=(TensorSpec("z", "FP32", ("batch", 1)),)))
    file.write_bytes(b"x")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        read_golden(tmp_path, "m", 1, SPEC)
