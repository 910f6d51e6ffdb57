"""What a server says of itself, as its answer comes late."""

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from servepath.http2.client import Done
from servepath.http2.replies import Reply
from servepath.protocols.external import UNKNOWN_ENGINE
from services.gateway.metadata import ServerMetadata
from tests.limits import LONG_S


class Channel:
    """A channel that answers when the test says so."""

    done: Done

    def call(self, _message: bytes, _deadline: float, _metadata: Any, done: Done) -> Any:
        self.done = done
        return lambda: None


async def test_an_answer_in_the_moment_in_which_it_is_given_up_is_dropped() -> None:
    metadata, channel = ServerMetadata("127.0.0.1:1"), Channel()
    metadata._channel = channel  # type: ignore[assignment] # white box: a moment that no socket hits
    asking = asyncio.create_task(metadata.refresh(LONG_S))
    await asyncio.sleep(0)
    asking.cancel()
    channel.done(Reply(StatusCode.UNIMPLEMENTED, ""))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert metadata.engine == UNKNOWN_ENGINE
