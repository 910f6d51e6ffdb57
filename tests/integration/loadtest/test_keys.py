"""A key that is being renewed costs a load test time, not an error."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from loadtest.calls import Caller, Clock, Target
from loadtest.payloads import Payload
from loadtest.plan import Measurement, ServingPath
from servepath.protocols.types import Answer, Provenance

METHOD = "/test.Keyed/Call"


class Keys:
    """What the caller holds: the old key until it has been told `needed` times that it was refused."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.told = 0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("key", "new" if self.told >= self.needed else "old"),)

    def refused(self) -> None:
        self.told += 1


@pytest.fixture
def address() -> Iterator[str]:
    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        if ("key", "new") not in [tuple(pair) for pair in context.invocation_metadata()]:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "expired")
        return request

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Keyed", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def ask(address: str, keys: Keys) -> tuple[bool, str]:
    served = Provenance("m", "torchserve", "e", "1", 1, "", sha256_observed=False)
    target = Target(
        measurement=Measurement(ServingPath("m", "torchserve"), "direct"),
        address=address,
        method=METHOD,
        model="m",
        encode=lambda *_: b"",
        decode=lambda *_: Answer((), served),
        metadata=keys.metadata,
        refused=keys.refused,
    )
    caller = Caller(target, Clock())
    try:
        sample = caller.ask(Payload(b"request", 1, ()))
    finally:
        caller.close()
    return sample.ok, sample.code


@pytest.mark.parametrize("needed", [0, 1, 4])
def test_a_call_refused_for_its_key_is_asked_again_with_the_renewed_one(address: str, needed: int) -> None:
    keys = Keys(needed)
    assert ask(address, keys) == (True, "OK")
    assert keys.told == needed


def test_a_key_that_stays_wrong_is_an_error(address: str) -> None:
    assert ask(address, Keys(99)) == (False, "PERMISSION_DENIED")
