import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from servepath.protocols.errors import BackendUnavailable, Cancelled, DeadlineExceeded
from servepath.protocols.signature import Signature
from servepath.protocols.types import Provenance, Request
from services.dataplane import health
from services.dataplane.backend import Call
from services.gateway import probe
from services.gateway.ejection import Health
from services.gateway.golden import Proof
from services.gateway.probe import LIVENESS, READINESS, Prober
from services.gateway.replicas import Member, ReplicaSet
from tests.limits import LONG_S
from tests.manifests import SPEC
from tests.serving_fakes import ANSWER

PROBE = (Request("m", 0, Signature(SPEC).zeros(1)), 1)


class Prover:
    """What a Prober needs of a PathProver; the test says what is proven."""

    def __init__(self, proof: Proof | None) -> None:
        self.proof = proof
        self.forgotten = 0
        self.failing = False
        self.done = asyncio.Event()

    def wanted(self, _: Provenance) -> bool:
        if self.failing:
            raise OSError("a disk that is gone")
        return self.proof is None

    async def prove(self, _: Any, served: Provenance) -> None:
        assert served == ANSWER.served
        await self.done.wait()
        self.proof = Proof(0.5)

    def forget(self) -> None:
        self.forgotten += 1


PROVEN: Any = Prover(Proof())
NO_QUEUE: Any = None


class Server:
    """What a Prober needs of a Replica; leaves its calls to the test."""

    model = "m"
    stack = "onnx"
    name = ("m", "onnx")

    def __init__(self) -> None:
        self.ready_now = True
        self.fault = ""
        self.proof = Proof()
        self.health = Health()
        self.calls: list[Call] = []
        self.behave: Callable[[Call], None] = lambda _: None

    async def identify(self, timeout_s: float) -> None:
        pass

    def send(self, call: Call) -> None:
        self.calls.append(call)
        self.behave(call)


def replicas_of(server: Any, prover: Any = PROVEN) -> ReplicaSet:
    return ReplicaSet([Member(server, NO_QUEUE, prover, PROBE)])


def probing(server: Any, prover: Any, timeout_s: float = LONG_S) -> Prober:
    """Return a prober of one path with one replica."""
    replicas = replicas_of(server, prover)
    prober = Prober(0.01, timeout_s=timeout_s)
    prober.use({"m@onnx": replicas.ready}, [replicas])
    return prober


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.005)


async def test_a_probe_that_nobody_ends_expires_and_the_next_ones_follow() -> None:
    server = Server()
    prober = probing(server, PROVEN, timeout_s=0.02)
    await prober.start()
    await until(lambda: not server.ready_now)
    server.behave = lambda call: call.end(ANSWER)
    await until(lambda: server.ready_now)
    await prober.stop()
    assert isinstance(server.calls[0].outcome, DeadlineExceeded)


async def test_an_answer_later_than_a_server_is_waited_for_makes_its_path_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "LATE_S", 0.01)
    server = Server()
    prober = probing(server, PROVEN)
    await prober.start()
    await until(lambda: not server.ready_now)
    assert server.fault == "its probe is not answered within 0.01 s"
    assert [call.outcome for call in server.calls] == [None]
    server.behave = lambda call: call.end(ANSWER)
    server.calls[0].end(ANSWER)
    await until(lambda: server.ready_now)
    await prober.stop()


class SlowHealth(Health):
    """Of a server whose answers to probes all took LONG_S."""

    @property
    def probe_s(self) -> float:
        return LONG_S

    @probe_s.setter
    def probe_s(self, took_s: float) -> None:
        pass


async def test_a_slow_server_is_left_to_its_callers_for_nine_tenths_of_the_time() -> None:
    slow, quick = Server(), Server()
    slow.health = SlowHealth()
    slow.behave = lambda call: call.end(BackendUnavailable("gone"))
    quick.behave = lambda call: call.end(ANSWER)
    prober = Prober(0.01, timeout_s=LONG_S)
    prober.use({}, [replicas_of(slow), replicas_of(quick)])
    await prober.start()
    await until(lambda: len(slow.calls) > 2)  # not ready: asked at each interval
    slow.behave = lambda call: call.end(ANSWER)
    await until(lambda: slow.ready_now)
    asked, others = len(slow.calls), len(quick.calls)
    await until(lambda: len(quick.calls) > others + 3)
    assert len(slow.calls) == asked
    await prober.stop()


async def test_a_server_is_waited_for_twice_as_long_as_its_last_answer_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LATE_S", 0.01)
    slow, quick = Server(), Server()
    slow.health.probe_s = LONG_S
    prober = Prober(0.01, timeout_s=LONG_S)
    prober.use({}, [replicas_of(slow), replicas_of(quick)])
    await prober.start()
    await until(lambda: not quick.ready_now)
    assert (slow.ready_now, [call.outcome for call in slow.calls]) == (True, [None])
    await prober.stop()


async def test_a_server_that_hangs_delays_no_other_one_s_recovery() -> None:
    hung, down = Server(), Server()
    down.behave = lambda call: call.end(BackendUnavailable("down"))
    replicas = replicas_of(down)
    prober = Prober(0.01, timeout_s=LONG_S)
    prober.use({"m@onnx": replicas.ready}, [replicas_of(hung), replicas])
    await prober.start()
    await come_to(prober, (True, True, False))
    down.behave = lambda call: call.end(ANSWER)
    await come_to(prober, (True, True, True))
    assert [call.outcome for call in hung.calls] == [None]
    await prober.stop()


async def test_after_a_reload_new_servers_are_probed_and_those_that_are_gone_are_not() -> None:
    gone, new = Server(), Server()
    prober = probing(gone, PROVEN)
    await prober.start()
    await until(lambda: bool(gone.calls))
    prober.use({}, [replicas_of(new)])
    await until(lambda: bool(new.calls))
    assert [type(call.outcome) for call in gone.calls] == [Cancelled]
    await prober.stop()


async def test_a_probe_that_cannot_be_sent_is_logged_and_the_next_ones_follow(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    prober = probing(server, PROVEN, timeout_s=0.5)

    def fail(_: Call) -> None:
        raise ValueError("a key that is no header")

    server.behave = fail
    await prober.start()
    await until(lambda: not server.ready_now)
    server.behave = lambda call: call.end(ANSWER)
    await until(lambda: server.ready_now)
    await prober.stop()
    assert "a probe of m@onnx could not be sent" in caplog.text


async def test_stopping_ends_the_probe_that_is_out() -> None:
    server = Server()
    prober = probing(server, PROVEN)
    await prober.start()
    await until(lambda: bool(server.calls))
    await prober.stop()
    assert isinstance(server.calls[0].outcome, Cancelled)


async def states(prober: Prober) -> tuple[bool, bool, bool]:
    """Return which of liveness, readiness and "" are SERVING."""
    names = (LIVENESS, READINESS, "")
    context: Any = None  # asked for nothing where the name is known
    found = [await prober.servicer.Check(health_pb2.HealthCheckRequest(service=name), context) for name in names]
    alive, ready, whole = (one.status == health_pb2.HealthCheckResponse.SERVING for one in found)
    return alive, ready, whole


async def come_to(prober: Prober, expected: tuple[bool, bool, bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while await states(prober) != expected:  # noqa: ASYNC110 - no events either
            await asyncio.sleep(0.005)


async def test_a_gateway_is_alive_at_once_ready_after_a_first_answer_and_stays_so_while_its_servers_are_down() -> None:
    server = Server()
    server.ready_now = False
    prober = probing(server, PROVEN, timeout_s=0.02)
    await prober.start()
    assert await states(prober) == (True, False, False)
    server.behave = lambda call: call.end(ANSWER)
    await come_to(prober, (True, True, True))
    server.behave = lambda _: None
    await come_to(prober, (True, True, False))
    await prober.stop()
    assert await states(prober) == (False, False, False)


async def test_a_path_is_ready_once_it_is_proven_and_probes_go_on_meanwhile() -> None:
    server, prover = Server(), Prover(None)
    server.behave = lambda call: call.end(ANSWER)
    prober = probing(server, prover)
    await prober.start()
    await until(lambda: len(server.calls) > 3)
    assert not server.ready_now
    prover.done.set()
    await until(lambda: server.ready_now)
    assert server.proof == Proof(0.5)
    await prober.stop()


async def test_a_refused_path_is_not_ready_and_one_whose_server_goes_is_proven_again() -> None:
    server, prover = Server(), Prover(Proof(1.0, refused="wrong"))
    server.behave = lambda call: call.end(ANSWER)
    prober = probing(server, prover)
    await prober.start()
    await until(lambda: server.proof.refused == "wrong")
    await until(lambda: not server.ready_now)
    assert prover.forgotten == 0
    server.behave = lambda call: call.end(BackendUnavailable("down"))
    await until(lambda: prover.forgotten > 0)
    assert server.proof == Proof()
    await prober.stop()


async def test_what_goes_wrong_with_one_probe_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    server, prover = Server(), Prover(Proof())
    server.behave = lambda call: call.end(ANSWER)
    prover.failing = True
    prober = probing(server, prover)
    await prober.start()
    await until(lambda: not server.ready_now)
    prover.failing = False
    await until(lambda: server.ready_now)
    await prober.stop()
    assert "a probe of m@onnx failed" in caplog.text


class Unread:
    """What a Watch needs of its call, whose caller reads nothing."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()

    async def write(self, _: health_pb2.HealthCheckResponse) -> None:
        self.writing.set()
        await asyncio.Event().wait()


async def test_a_caller_that_watches_and_does_not_read_holds_up_no_other_entry_and_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "SET_S", 0.01)
    server, unread = Server(), Unread()
    server.behave = lambda call: call.end(ANSWER)
    prober = probing(server, PROVEN)
    watching = asyncio.create_task(prober.servicer.Watch(health_pb2.HealthCheckRequest(service=""), unread))
    await unread.writing.wait()
    async with asyncio.timeout(LONG_S):
        await prober.start()
        while (await states(prober))[:2] != (True, True):  # noqa: ASYNC110 - no events either
            await asyncio.sleep(0.005)
        await prober.stop()
    assert (await states(prober))[:2] == (False, False)
    watching.cancel()
    await asyncio.wait({watching})
