"""Nonces through a real gateway: python -m tests.fuzz.merge_fuzz --rows 1000000.

A gateway in a process of its own stands in front of a server that echoes what each row holds. Callers send rows that
are all different, under both names and protocols of one path; some give up, some have no time, some are poisonous.
Every answer must hold its own rows. Exit code 1 if any does not, if a call is never answered, if a row is answered
twice, if calls were hardly merged or hardly disturbed.
"""

import argparse
import asyncio
import os
import random
import re
import struct
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop
from grpc import StatusCode, aio

from servepath.protocols import oip, servepath
from servepath.protocols.errors import BadInput
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Call
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack

DEPLOYMENTS = """
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_in_flight = 2
max_merge_rows = 64
"""
CALLERS = 384
CHANNELS = 6
MAX_ROWS = 6
# The gateway's probes send zeros.
PROBE = 0
# What a server takes for a call whatever its rows; without it nothing would have to wait.
CALL_S = 0.0005
LOST_S = 30.0
# Parts of the calls that get each fate. A call may be answered before its fate strikes, so these are above LEAST.
POISON, EXPIRE, CANCEL = 0.06, 0.14, 0.14
LEAST = 0.05
MIN_MERGED = 8
FATES = ("poison", "expired", "cancelled")
# A listener closes a connection on which too many calls were cancelled before it had taken them (HTTP/2's rapid reset).
# The calls on it are told UNAVAILABLE: neither lost nor answered incorrectly. One connection's calls, or this part of
# all.
MAX_CLOSED = 0.001


class Echo(FakeBackend):
    """Answers each row with its nonce, refuses calls with a poisonous row, and keeps account of both."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = array("l")  # nonce -> number of the request that holds it
        self.answered = bytearray()
        self.merged = bytearray()
        self.doubled = 0
        self.calls_sent = self.rows_sent = 0
        self.merged_calls = self.sent_merged = 0
        self.merged_rows = 0  # each counted once, however often its call was split

    def new_nonces(self, request: int, rows: int) -> range:
        begin = len(self.owner)
        self.owner.extend([request] * rows)
        self.answered.extend(bytes(rows))
        self.merged.extend(bytes(rows))
        return range(begin, begin + rows)

    def submit(self, call: Call) -> None:
        asyncio.get_running_loop().call_later(CALL_S, self._end, call)

    def _end(self, call: Call) -> None:
        if call.outcome is not None:
            return
        (x,) = call.request.inputs
        values = struct.unpack(f"<{len(x.data) // 4}f", x.data)
        nonces = [int(value) for value in values[::2]]
        if nonces != [PROBE]:
            self._count(nonces)
        if any(values[1::2]):
            call.end(BadInput("poison"))
            return
        for nonce in nonces:
            self.doubled += self.answered[nonce] and nonce != PROBE
            self.answered[nonce] = 1
        y = Tensor("y", "FP32", (len(nonces), 1), struct.pack(f"<{len(nonces)}f", *nonces))
        call.end(Answer((y,), self.served))

    def _count(self, nonces: Sequence[int]) -> None:
        self.calls_sent += 1
        self.rows_sent += len(nonces)
        if len({self.owner[nonce] for nonce in nonces}) > 1:
            self.merged_calls += 1
            self.sent_merged += len(nonces)
            for nonce in nonces:
                self.merged_rows += not self.merged[nonce]
                self.merged[nonce] = 1


class Protocol(NamedTuple):
    method: str
    encode: Callable[[Request, str, int], bytes]
    decode: Callable[[bytes], Answer]


PROTOCOLS = (
    Protocol(servepath.METHOD, servepath.encode_request, servepath.decode_answer),
    Protocol(oip.METHOD, oip.encode_request, lambda payload: oip.decode_answer(payload, "", "")),
)


class Callers:
    """Calls at full load until enough rows have travelled in merged calls, and counts how each call ended."""

    def __init__(self, echo: Echo, channels: Sequence[aio.Channel], rows: int, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._echo = echo
        self._rows = rows
        self._random = random.Random(seed)  # noqa: S311 - sizes and fates, no secret
        self._infer = [
            [(protocol, channel.unary_unary(protocol.method)) for protocol in PROTOCOLS] for channel in channels
        ]

    async def run(self) -> None:
        self._echo.new_nonces(-1, 1)  # PROBE
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._caller(self._infer[number % len(self._infer)]))

    async def _caller(self, infer: Sequence[tuple[Protocol, aio.UnaryUnaryMultiCallable]]) -> None:
        while self._echo.merged_rows < self._rows:
            fate = self._random.choices(("", *FATES), (1 - POISON - EXPIRE - CANCEL, POISON, EXPIRE, CANCEL))[0]
            self.counts["calls"] += 1
            self.counts[await self._call(*self._random.choice(infer), fate)] += 1

    async def _call(self, protocol: Protocol, infer: aio.UnaryUnaryMultiCallable, fate: str) -> str:
        nonces = self._echo.new_nonces(self.counts["calls"], self._random.randint(1, MAX_ROWS))
        model = self._random.choice(("alpha", "alpha@onnx"))
        request = Request(model, self._random.choice((0, 0, 0, 1)), (self._tensor(nonces, fate),))
        payload = protocol.encode(request, model, request.version)
        call = infer(payload, timeout=0.002 if fate == "expired" else LOST_S)
        canceller = None
        if fate == "cancelled":
            canceller = asyncio.get_running_loop().call_later(self._random.uniform(0, 0.004), call.cancel)
        try:
            reply = await call
        except aio.AioRpcError as error:
            return self._refused(error.code(), fate)
        except asyncio.CancelledError:
            if fate != "cancelled":
                raise
            return "cancelled"
        finally:
            if canceller is not None:
                canceller.cancel()
        return self._answered(protocol.decode(reply), nonces, fate)

    def _tensor(self, nonces: range, fate: str) -> Tensor:
        bad = self._random.choice(nonces) if fate == "poison" else -1
        pairs = [value for nonce in nonces for value in (nonce, nonce == bad)]
        return Tensor("x", "FP32", (len(nonces), 2), struct.pack(f"<{len(pairs)}f", *pairs))

    def _answered(self, answer: Answer, nonces: range, fate: str) -> str:
        (y,) = answer.outputs
        right = y.shape == (len(nonces), 1) and struct.unpack(f"<{len(nonces)}f", y.data) == tuple(nonces)
        return "answered" if right and fate != "poison" else "mixed"

    def _refused(self, code: StatusCode, fate: str) -> str:
        if code is StatusCode.INVALID_ARGUMENT:
            return "poison" if fate == "poison" else "mixed"
        if code is StatusCode.DEADLINE_EXCEEDED:
            return "expired" if fate == "expired" else "lost"
        return "closed" if code is StatusCode.UNAVAILABLE else f"refused {code.name}"


@asynccontextmanager
async def gateway(folder: Path, stack: FakeStack, front: str) -> AsyncIterator[int]:
    """Run a gateway in front of the stack; gives its port."""
    make_export(folder / "exports", "alpha", "onnx")
    (folder / "deployments.toml").write_text(DEPLOYMENTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.gateway", "--port", "0", "--metrics-port", "0", "--front", front),
        *("--deployments", str(folder / "deployments.toml"), "--exports", str(folder / "exports")),
        env=os.environ | {"ONNX_SVC_ADDR": stack.address},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stderr.readline()).decode()
        found = re.search(r"listening on \S+?:(\d+)", line)
        if found is None:
            raise RuntimeError(f"the gateway did not start: {line}")
        yield int(found[1])
    finally:
        process.terminate()
        _, log = await process.communicate()
        sys.stderr.write(log.decode())


async def fuzz(rows: int, front: str, seed: int) -> bool:
    """Run, print the account, and say whether all is well."""
    echo = Echo()
    stack = await FakeStack(echo).start()
    with tempfile.TemporaryDirectory() as name:
        async with gateway(Path(name), stack, front) as port:
            # Channels to one address would share a connection otherwise.
            options = (("grpc.use_local_subchannel_pool", 1),)
            channels = [aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(CHANNELS)]
            callers = Callers(echo, channels, rows, seed)
            await callers.run()
            for channel in channels:
                await channel.close()
    await stack.stop()
    return account(echo, callers.counts)


def account(echo: Echo, counts: Counter[str]) -> bool:
    """Print what happened; return False if anything is wrong."""
    calls = counts["calls"]
    merged = echo.sent_merged / max(1, echo.merged_calls)
    parts = {fate: counts[fate] / max(1, calls) for fate in FATES}
    unexpected = calls - counts["answered"] - counts["closed"] - sum(counts[fate] for fate in FATES)
    few_closed = counts["closed"] <= max(CALLERS / CHANNELS, MAX_CLOSED * calls)
    lines = (
        f"calls {calls}, rows {len(echo.owner) - 1}, answered {counts['answered']}",
        f"mixed {counts['mixed']}, lost {counts['lost']}, doubled {echo.doubled}",
        f"closed with their connection {counts['closed']}, not as expected {unexpected}",
        f"rows in merged calls {echo.merged_rows}, mean {merged:.1f} a merged call",
        f"backend calls {echo.calls_sent}, mean {echo.rows_sent / max(1, echo.calls_sent):.1f} rows of all",
        ", ".join(f"{fate} {part:.1%}" for fate, part in parts.items()),
    )
    sys.stdout.write("\n".join((*lines, "")))
    right = not (unexpected or echo.doubled) and few_closed
    return right and merged >= MIN_MERGED and min(parts.values()) >= LEAST


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fuzz; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.merge_fuzz", description="Fuzz the merger.")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to send in merged calls (default: %(default)s)")
    parser.add_argument("--front", default="native", help="the gateway's listener (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of sizes and fates (default: %(default)s)")
    options = parser.parse_args(argv)
    return 0 if uvloop.run(fuzz(options.rows, options.front, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
