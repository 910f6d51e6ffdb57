"""What gRPC's own retries make of our errors: back when they are told to be, and not where they are told not to."""

import json
import struct
from collections.abc import Mapping

import grpc
import pytest
from grpc import aio

from servepath.protocols import oip
from servepath.protocols.errors import Draining, ModelNotFound, Overloaded, ServeError, TooLarge
from servepath.protocols.types import Request, Tensor
from tests.fake_stack import FakeBackend, FakeStack

DEADLINE_S = 60
# Its own pause is longer than the deadline: only the server's hint leads to a second try.
POLICY = {
    "maxAttempts": 3,
    "initialBackoff": f"{10 * DEADLINE_S}s",
    "maxBackoff": f"{10 * DEADLINE_S}s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "NOT_FOUND"],
}


def options(policy: Mapping[str, object]) -> tuple[tuple[str, str]]:
    """Return the options of a channel that tries again by a policy."""
    return (("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),)


X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))
PAYLOAD = oip.encode_request(Request("m", 0, (X,)), "m", 0)


async def test_a_refused_call_comes_back_after_the_pause_that_it_was_told(front: str) -> None:
    assert await asked(front, Overloaded("full", retry_after_ms=20), POLICY) == 2


@pytest.mark.parametrize(
    "refusal", [Draining(), ModelNotFound("unloaded", retry_after_ms=0)], ids=["draining", "on another replica"]
)
async def test_a_call_that_may_come_back_at_once_comes_back_after_its_own_pause(
    front: str, refusal: ServeError
) -> None:
    assert await asked(front, refusal, {**POLICY, "initialBackoff": "0.02s"}) == 2


async def asked(front: str, refusal: ServeError, policy: Mapping[str, object]) -> int:
    """Return how often a server that refuses the first call was asked until the caller had an answer."""
    backend = FakeBackend()
    backend.behave = lambda call: refusal if len(backend.calls) == 1 else backend.answer(call)
    stack = await FakeStack(backend, front=front).start()
    try:
        async with aio.insecure_channel(stack.address, options=options(policy)) as channel:
            reply = await channel.unary_unary(oip.METHOD)(PAYLOAD, timeout=DEADLINE_S)
            assert oip.decode_answer(reply, "m", "").outputs == backend.answer(backend.calls[0]).outputs
    finally:
        await stack.stop()
    return len(backend.calls)


async def test_a_call_that_will_fail_again_is_not_tried_again(front: str) -> None:
    backend = FakeBackend()
    backend.behave = lambda _: TooLarge("600 MB")
    stack = await FakeStack(backend, front=front).start()
    try:
        async with aio.insecure_channel(stack.address, options=options(POLICY)) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary(oip.METHOD)(PAYLOAD, timeout=DEADLINE_S)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        await stack.stop()
    assert len(backend.calls) == 1
