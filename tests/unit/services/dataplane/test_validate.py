import asyncio

from servepath.protocols.errors import BadInput
from servepath.protocols.signature import Signature
from servepath.protocols.types import Answer, Provenance, Tensor
from services.dataplane.validate import Validate
from tests.manifests import SPEC
from tests.serving_fakes import SERVED, Keeping, X, call


def validate(inner: Keeping) -> Validate:
    def served(version: int) -> Provenance:
        return SERVED._replace(version=version or 9)

    return Validate(inner, Signature(SPEC), served)


def test_a_valid_call_goes_on_with_its_rows() -> None:
    inner = Keeping()
    good = call(Tensor("x", "FP32", (3, 2), bytes(24)))
    validate(inner).submit(good)
    assert inner.calls == [good]
    assert good.rows == 3


def test_an_invalid_call_ends_and_never_reaches_the_backend() -> None:
    inner = Keeping()
    bad = call(X._replace(dtype="INT8"))
    validate(inner).submit(bad)
    assert inner.calls == []
    assert isinstance(bad.outcome, BadInput)


def test_zero_rows_are_answered_here_ok_and_empty() -> None:
    inner = Keeping()
    empty = call(Tensor("x", "FP32", (0, 2), b""))
    validate(inner).submit(empty)
    assert inner.calls == []
    assert empty.outcome == Answer((Tensor("y", "FP32", (0, 1), b""),), SERVED._replace(version=9))


def test_readiness_and_closing_are_the_inner_backends() -> None:
    inner = Keeping()
    inner.is_ready = False
    assert not validate(inner).ready()
    asyncio.run(validate(inner).close())
    assert inner.closed
