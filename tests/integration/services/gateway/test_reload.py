"""deployments.toml read again while calls are under way."""

import asyncio
import struct
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.protocols import servepath
from servepath.protocols.errors import Internal
from servepath.protocols.types import Request, Tensor
from servepath.settings import SettingsError
from services.dataplane.backend import Call, Outcome
from services.gateway.config import Settings
from services.gateway.golden import Proof
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import Caller, running, settings
from tests.limits import LONG_S

SERVERS = '[servers.other]\nprotocol = "oip"\n'
ON_ONNX = f'{SERVERS}[models.alpha]\ndefault = "onnx"\n[models.alpha.stacks.onnx]\n'
ON_BOTH = f"{ON_ONNX}[models.alpha.stacks.other]\n"
ON_OTHER = ON_BOTH.replace('default = "onnx"', 'default = "other"')
BAD = ON_BOTH.replace('default = "onnx"', 'default = "onyx"')
CALLERS = 8


X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))


def payload(name: str = "alpha") -> bytes:
    return servepath.encode_request(Request(name, 0, (X,)), name, 0)


@asynccontextmanager
async def in_front_of_two(folder: Path, text: str, front: str) -> AsyncIterator[tuple[Gateway, Caller]]:
    make_export(folder / "exports", "alpha", "onnx")
    stacks = [await FakeStack(FakeBackend()).start() for _ in range(2)]
    addresses = dict(zip(("onnx", "other"), (stack.address for stack in stacks), strict=True))
    try:
        async with running(settings(folder, text, addresses, front)) as (gateway, caller):
            yield gateway, caller
    finally:
        for stack in stacks:
            await stack.stop()


def write(folder: Path, text: str) -> None:
    """Write the file as an editor does that puts a new one in its place."""
    (folder / "new.toml").write_text(text)
    (folder / "new.toml").replace(folder / "deployments.toml")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)


async def test_a_file_that_has_changed_is_in_use_soon_and_its_unchanged_path_is_kept(
    tmp_path: Path, front: str
) -> None:
    async with in_front_of_two(tmp_path, ON_ONNX, front) as (gateway, caller):
        kept = gateway.reloader.routes.paths["alpha", "onnx"]
        assert (await caller.predict(payload())).served.stack == "onnx"
        write(tmp_path, ON_OTHER)
        await until(lambda: len(gateway.reloader.routes.paths) == 2)
        assert (await caller.predict(payload())).served.stack == "other"
        assert (await caller.predict(payload("alpha@onnx"))).served.stack == "onnx"
        assert gateway.reloader.routes.paths["alpha", "onnx"] is kept
        write(tmp_path, ON_ONNX)
        await until(lambda: len(gateway.reloader.routes.paths) == 1)
        with pytest.raises(aio.AioRpcError) as caught:
            await caller.predict(payload("alpha@other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_file_that_cannot_be_used_changes_nothing_and_says_so_until_it_is_right(
    tmp_path: Path, front: str
) -> None:
    async with in_front_of_two(tmp_path, ON_BOTH, front) as (gateway, caller):
        before = (await caller.list_paths()).deployments_sha256
        for text, said in (
            (BAD, "deployments.toml, line 4: default must be one of ['onnx', 'other'], got 'onyx'"),
            (ON_BOTH + "[gateway]\nmax_rank = 4\n", "which counts from the start: restart the gateway"),
            (ON_BOTH + "[models.beta]\ndefault = 'onnx'\n[models.beta.stacks.onnx]\n", "beta"),
        ):
            write(tmp_path, text)
            gateway.reloader.ask()
            await until(lambda said=said: said in gateway.reloader.error)  # type: ignore[misc]
            listed = await caller.list_paths()
            assert said in listed.deployments_error
            assert str(tmp_path) not in listed.deployments_error
            assert listed.deployments_sha256 == before
            assert (await caller.predict(payload())).served.stack == "onnx"
        assert "servepath_deployments_in_use 0.0" in await asyncio.to_thread(metrics, gateway.metrics_port)
        write(tmp_path, ON_OTHER)
        gateway.reloader.ask()
        await until(lambda: not gateway.reloader.error)
        assert (await caller.list_paths()).deployments_sha256 != before
        assert "servepath_deployments_in_use 1.0" in await asyncio.to_thread(metrics, gateway.metrics_port)


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG_S) as reply:
        return reply.read().decode()


async def test_a_hundred_reloads_under_load_lose_no_call_and_leave_no_route_that_is_gone(
    tmp_path: Path, front: str
) -> None:
    async with in_front_of_two(tmp_path, ON_BOTH, front) as (gateway, caller):
        ending = asyncio.Event()

        async def call() -> None:
            while not ending.is_set():
                await caller.predict(payload())

        calling = [asyncio.create_task(call()) for _ in range(CALLERS)]
        reloads = 0

        def count() -> None:
            nonlocal reloads
            reloads += 1

        gateway.reloader.on_reload = count
        stack = "onnx"
        for number in range(100):
            bad = number % 5 == 4
            if not bad:
                stack = "onnx" if stack == "other" else "other"
            # Every other time, the path that the model is not on is gone and built again.
            whole = {"onnx": ON_BOTH, "other": ON_OTHER}[stack]
            alone = whole.replace(
                "[models.alpha.stacks.onnx]\n" if stack == "other" else "[models.alpha.stacks.other]\n", ""
            )
            write(tmp_path, BAD if bad else alone if number % 2 else whole)
            gateway.reloader.ask()
            await until(lambda number=number: reloads > number)  # type: ignore[misc]
            assert bool(gateway.reloader.error) is bad
            answers = await asyncio.gather(*(caller.predict(payload()) for _ in range(5)))
            assert {answer.served.stack for answer in answers} == {stack}
        ending.set()
        await asyncio.gather(*calling)  # an error would be raised here


async def test_a_call_under_way_while_the_default_moves_counts_for_the_stack_that_has_it(
    tmp_path: Path, front: str
) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    backend, held = FakeBackend(), list[Call]()

    def hold(call: Call) -> Outcome | None:
        if not any(call.request.inputs[0].data):
            return backend.answer(call)  # a probe
        held.append(call)
        return None

    backend.behave = hold
    stack = await FakeStack(backend).start()
    addresses = dict.fromkeys(("onnx", "other"), stack.address)
    try:
        async with running(settings(tmp_path, ON_BOTH, addresses, front)) as (gateway, caller):
            calling = asyncio.create_task(caller.predict(payload()))
            await until(lambda: bool(held))
            write(tmp_path, ON_OTHER)
            gateway.reloader.ask()
            await until(lambda: gateway.reloader.routes.names["alpha"].stack == "other")
            held[0].end(Internal())
            with pytest.raises(aio.AioRpcError):
                await calling
            text = await asyncio.to_thread(metrics, gateway.metrics_port)
    finally:
        await stack.stop()
    failed = [line for line in text.splitlines() if line.startswith('servepath_requests_total{code="INTERNAL"')]
    assert [line for line in failed if not line.endswith(" 0.0")] == [
        'servepath_requests_total{code="INTERNAL",model="alpha",stack="onnx"} 1.0'
    ]


async def test_health_follows_the_names_of_the_file(tmp_path: Path, front: str) -> None:
    async with (
        in_front_of_two(tmp_path, ON_BOTH, front) as (gateway, _),
        aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)

        async def come_to(name: str, status: int) -> None:
            async with asyncio.timeout(LONG_S):
                while (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status != status:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        await come_to("alpha@other", health_pb2.HealthCheckResponse.SERVING)
        write(tmp_path, ON_ONNX)
        gateway.reloader.ask()
        await come_to("alpha@other", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        await come_to("alpha", health_pb2.HealthCheckResponse.SERVING)


async def test_an_address_more_keeps_the_replica_that_there_is_and_one_less_closes_the_other(
    tmp_path: Path, front: str
) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    stacks = [await FakeStack(FakeBackend()).start() for _ in range(2)]
    first, second = (stack.address for stack in stacks)
    # Calls that came before may take as long as max_deadline_s, and so a replica is kept.
    limits = "[gateway]\nmax_deadline_s = 1\ndefault_deadline_s = 1\n"
    used = settings(tmp_path, limits + ON_ONNX.removeprefix(SERVERS), {"onnx": first}, front)
    now = {"onnx": first}
    try:
        async with running(used, lambda before: replace(before, addresses=now)) as (gateway, caller):
            paths = lambda: gateway.reloader.routes.paths["alpha", "onnx"]  # noqa: E731
            (kept,) = paths().replicas.members
            now = {"onnx": f"{first},{second}"}
            gateway.reloader.ask()
            await until(lambda: len(paths().replicas.members) == 2)
            assert paths().replicas.members[0] is kept
            await until(lambda: bool(stacks[1].backend.calls))  # a probe at first
            now = {"onnx": second}
            gateway.reloader.ask()
            await until(lambda: len(paths().replicas.members) == 1)
            assert paths().replicas.members[0] is not kept
            await until(lambda: kept.replica._closed)
            assert (await caller.predict(payload())).served.stack == "onnx"
    finally:
        for stack in stacks:
            await stack.stop()


async def test_callers_are_not_told_which_address_cannot_be_used(
    tmp_path: Path, front: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    stack = await FakeStack(FakeBackend()).start()

    def fail(_: Settings) -> Settings:
        raise SettingsError("ONNX_SVC_ADDR: '10.1.2.3:80011' is not HOST:PORT")

    used = settings(tmp_path, ON_ONNX.removeprefix(SERVERS), {"onnx": stack.address}, front)
    try:
        async with running(used, fail) as (gateway, caller):
            gateway.reloader.ask()
            await until(lambda: bool(gateway.reloader.error))
            said = (await caller.list_paths()).deployments_error
            assert said == "an address in .env or in the environment cannot be used; the gateway's log has the cause"
            assert "10.1.2.3:80011" in caplog.text
            assert (await caller.predict(payload())).served.stack == "onnx"
    finally:
        await stack.stop()


async def test_a_path_that_is_refused_stays_so_when_its_limits_change(tmp_path: Path, front: str) -> None:
    async with in_front_of_two(tmp_path, ON_BOTH, front) as (gateway, caller):
        path = gateway.reloader.routes.paths["alpha", "onnx"]
        (member,) = path.replicas.members
        await until(path.replicas.ready)
        member.replica.proof = member.prover.proof = Proof(1.0, refused="it answers something else", version=1)
        write(tmp_path, ON_BOTH.replace("[models.alpha.stacks.onnx]", "[models.alpha.stacks.onnx]\nmax_queue = 7"))
        gateway.reloader.ask()
        await until(lambda: gateway.reloader.routes.paths["alpha", "onnx"] is not path)
        with pytest.raises(aio.AioRpcError, match="it answers something else"):
            await caller.predict(payload())


async def test_a_drain_waits_for_calls_at_a_replica_that_a_reload_has_dropped(tmp_path: Path, front: str) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    backend = FakeBackend()
    stack = await FakeStack(backend).start()
    used = settings(tmp_path, ON_BOTH, {"onnx": stack.address, "other": stack.address}, front)
    held: list[Call] = []

    def hold(call: Call) -> Outcome | None:
        if call.request.inputs != (X,):  # a probe
            return backend.answer(call)
        held.append(call)
        return None

    backend.behave = hold
    try:
        async with running(used) as (gateway, caller):
            calling = asyncio.create_task(caller.predict(payload("alpha@other")))
            await until(lambda: bool(held))
            write(tmp_path, ON_ONNX)
            gateway.reloader.ask()
            await until(lambda: len(gateway.reloader.routes.paths) == 1)
            draining = asyncio.create_task(gateway.drain())
            await until(lambda: gateway.data_plane.draining)
            held[0].end(backend.answer(held[0]))
            assert (await calling).served.stack == "other"
            await draining
    finally:
        await stack.stop()
