"""The ways to get answers: ONNX Runtime in process, our servers, and others, each with its settings."""

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import onnxruntime

from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec
from servepath.cli.children import running, tail
from servepath.cli.free_ports import free_ports
from servepath.demo.stages import StageFailed
from servepath.protocols import oip
from servepath.protocols.arrays import from_values, to_array
from servepath.protocols.codecs import STACK_CODECS, StackCodec
from servepath.protocols.probes import reduced_spec
from servepath.protocols.stacks import STACKS
from servepath.protocols.token import TokenFile
from servepath.protocols.types import Request
from studies.foreign.questions import Question, padded
from studies.peers.models import tuned
from studies.peers.rows import Tuning

IN_PROCESS, GATEWAY = "in process", "gateway and onnx_svc"
SCRIPTS = Path("tests/interop")
# What other servers call the model.
THEIRS = "theirs"
CALL_S, READY_S, GRACE_S = 60.0, 120.0, 10.0
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
# In process: threads that run at once, threads of each run, rows of each run.
EQUAL_WAYS = ((2, 1, 4), (2, 1, 8), (2, 1, 16), (1, 2, 8), (1, 2, 16))
MIXED_WAYS = ((2, 1, 1), (2, 1, 4), (1, 2, 1), (1, 2, 4))
# Of others: processes or instances, threads of each run; TorchServe's have batches as well.
PEER_WAYS = ((2, 1), (1, 2), (2, 2))
TORCHSERVE_WAYS = (
    (Tuning(1, 1, 1), 2),
    (Tuning(32, 1, 1), 2),
    (Tuning(1, 1, 2), 1),
    (Tuning(8, 1, 2), 1),
)
# Asks the question of a number, over and over the same ones, and checks the answer.
Ask = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to get answers. peer: of whose ways the best is kept. makers: make what each caller asks with."""

    peer: str
    name: str
    makers: Sequence[Callable[[], Ask]]
    rows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the callers of a way got together. latencies: of each call, seconds."""

    rows_per_second: float
    latencies: Sequence[float]


def measure(way: Way, seconds: float, rate: float | None = None) -> Measured:
    """Return what the callers of a way get in some seconds. Raises StageFailed for a failed call or a wrong answer.

    rate: of calls a second, at drawn times; a latency counts from there. Without it callers ask as soon as they can.
    """
    latencies: list[float] = []
    failures: list[Exception] = []
    asks = [make() for make in way.makers]
    began = time.perf_counter()
    schedule = _Due(began, began + seconds, rate)

    def work(caller: int) -> None:
        number = caller * 17
        try:
            while not failures and (due := next(schedule, None)) is not None:
                time.sleep(max(0.0, due - time.perf_counter()))
                begin = due if rate else time.perf_counter()
                asks[caller](number)
                latencies.append(time.perf_counter() - begin)
                number += 1
        except Exception as error:  # noqa: BLE001 - a caller that stops would pass for a slow server
            failures.append(error)

    begin = time.perf_counter()
    threads = [threading.Thread(target=work, args=(caller,), daemon=True) for caller in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise StageFailed(f"{way.name}: {type(failures[0]).__name__}: {failures[0]}")
    return Measured(len(latencies) * way.rows / (time.perf_counter() - begin), latencies)


class _Due(Iterator[float]):
    """When each call is due, for all callers together: at once, or at times of a Poisson process."""

    def __init__(self, begin: float, end: float, rate: float | None) -> None:
        self._next, self._end, self._rate = begin, end, rate
        self._draw = random.Random(0)  # noqa: S311 - times, not secrets
        self._lock = threading.Lock()

    def __next__(self) -> float:
        """Return the next time. Raises StopIteration at the end."""
        with self._lock:
            self._next = self._next + self._draw.expovariate(self._rate) if self._rate else time.perf_counter()
            if self._next >= self._end:
                raise StopIteration
            return self._next


@dataclass(frozen=True, slots=True)
class Study:
    """What is asked of every way. lengths: whether these are mixed. callers: at once. folder: for logs."""

    reference: Reference
    questions: Sequence[Question]
    rows: int
    mixed: bool
    callers: int
    file: Path
    exports: Path
    folder: Path


def session(file: Path, threads: int) -> Any:
    """Return ONNX Runtime's session of a file, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def in_process(study: Study) -> list[Way]:
    """Return the ways without a server; a study of one caller has all cores for each run."""
    names, spec = [tensor.name for tensor in study.reference.spec.outputs], study.reference.spec
    ways = []
    for callers, threads, rows in MIXED_WAYS if study.mixed else EQUAL_WAYS:
        if study.callers == 1 and (callers > 1 or (study.mixed and rows > 1)):
            continue
        engine = session(study.file, threads)
        if study.mixed:
            questions = list(study.questions) if rows == 1 else padded(study.questions, spec, rows)
        else:
            (one,) = study.questions
            rows = study.rows if study.callers == 1 else rows  # noqa: PLW2901 - a lone caller's own
            questions = [
                Question(*({n: _rows(a, rows) for n, a in each.items()} for each in (one.inputs, one.answers)))
            ]

        def make(engine: Any = engine, questions: Sequence[Question] = questions) -> Ask:
            def ask(number: int) -> None:
                question = questions[number % len(questions)]
                found = dict(zip(names, engine.run(names, dict(question.inputs)), strict=True))
                question.check(found, spec)

            return ask

        ways.append(
            Way(IN_PROCESS, f"{IN_PROCESS}, {callers} x {threads} threads, {rows} rows", [make] * callers, rows)
        )
    return ways


def _rows(array: Any, rows: int) -> Any:
    return array[[number % len(array) for number in range(rows)]]


@dataclass(frozen=True, slots=True)
class Door:
    """Where, in which protocol and under which name a server is called."""

    address: str
    codec: StackCodec
    model: str
    metadata: Callable[[], Any] = tuple


def served(peer: str, name: str, door: Door, study: Study, reduced: Spec | None = None) -> Way:
    """Return a way to a server, one connection for each caller. reduced: with the tolerance of another precision."""
    spec = reduced or study.reference.spec
    payloads = [
        door.codec.encode_request(
            Request(door.model, 0, tuple(from_values(t.name, t.dtype, each.inputs[t.name]) for t in spec.inputs)),
            door.model,
            0,
        )
        for each in study.questions
    ]

    def make() -> Ask:
        channel = grpc.insecure_channel(door.address, (*OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        call: Callable[..., bytes] = channel.unary_unary(door.codec.METHOD)
        metadata = door.metadata()  # here, since what reads a key that is renewed is for one thread

        def ask(number: int) -> None:
            place = number % len(payloads)
            reply = call(payloads[place], timeout=CALL_S, metadata=metadata)
            answer = door.codec.decode_answer(reply, door.model, peer)
            study.questions[place].check({tensor.name: to_array(tensor) for tensor in answer.outputs}, spec)

        return ask

    return Way(peer, name, [make] * study.callers, study.rows)


def gateway(address: str, study: Study, stack: str = "onnx") -> Way:
    """Return the gateway in front of onnx_svc, or of another stack, such as `onnx:int8`. Raises ArtifactError."""
    model = study.reference.model
    name = GATEWAY if stack == "onnx" else f"gateway and {model}@{stack}"
    door = Door(address, STACK_CODECS["onnx"], f"{model}@{stack}")
    return served(name, name, door, study, reduced_spec(study.exports, model, stack))


@contextmanager
def torchserve(study: Study) -> Iterator[list[Way]]:
    """Start TorchServe with each of its settings, asked directly; nothing where the model is not for it."""
    with ExitStack() as servers:
        ways = []
        for tuning, threads in TORCHSERVE_WAYS if (study.exports / study.reference.model / "mar").is_dir() else ():
            name = f"torchserve, {tuning.workers} x {threads} threads, batches of {tuning.batch_size}"
            place = study.folder / name.replace(" ", "-").replace(",", "")
            tuned(study.exports, place / "exports", study.reference.model, tuning)
            stack = STACKS["torchserve"]
            ports = dict(zip((port.variable for port in stack.ports), free_ports(len(stack.ports)), strict=True))
            token = place / "run" / "token"
            (place / "run").mkdir()
            settings = {**ports, "OMP_NUM_THREADS": threads, "TORCH_SVC_TOKEN_FILE": token}
            words = ["env", *(f"{key}={value}" for key, value in settings.items())]
            words += [study_python(), "-m", "services.torch_svc", "--models", str(place / "exports")]
            words += ["--run-dir", str(place / "run")]
            log = place / "log"
            servers.enter_context(running(words, log, grace_s=GRACE_S))
            door = Door(
                f"127.0.0.1:{ports[stack.ports[0].variable]}",
                STACK_CODECS["torchserve"],
                study.reference.model,
                TokenFile(token).metadata,
            )
            ways.append(served("torchserve", name, door, study))
            _wait(ways[-1], log)
        yield ways


@contextmanager
def other(peer: str, study: Study) -> Iterator[list[Way]]:
    """Start MLServer or Triton with each of its settings; nothing where its environment is missing."""
    python = Path(f".venv-{peer}/bin/python")
    with ExitStack() as servers:
        ways = []
        if not python.exists():
            print(f"no {peer}: {python} is missing; run: make {python.parts[0]}/.installed")
        for processes, threads in PEER_WAYS if python.exists() else ():
            name = f"{peer}, {processes} x {threads} threads"
            ports, log = free_ports(3), study.folder / f"{peer}-{processes}x{threads}.log"
            words = ["env", f"LD_LIBRARY_PATH={_library(python)}", str(python), str(SCRIPTS / f"serve_{peer}.py")]
            words += [*map(str, ports), str(study.file.resolve())]
            servers.enter_context(running([*words, str(processes), str(threads)], log, grace_s=GRACE_S))
            ways.append(served(peer, name, Door(f"127.0.0.1:{ports[0]}", _OIP, THEIRS), study))
            _wait(ways[-1], log)
        yield ways


def _library(python: Path) -> str:
    """Return the folder of a Python's libpython: Triton's stub takes the system's one otherwise, which may be older."""
    words = [str(python), "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=READY_S).stdout.strip()


class _Oip:
    """The Open Inference Protocol of a server whose versions are no numbers."""

    METHOD = oip.METHOD
    encode_request = staticmethod(oip.encode_request)
    translate = staticmethod(oip.translate)

    @staticmethod
    def decode_answer(payload: bytes, model: str, stack: str) -> Any:
        message = oip.parse_answer(payload)
        message.model_version = ""
        return oip.decode_answer(message.SerializeToString(), model, stack)


_OIP = _Oip()


def study_python() -> str:
    """Return the interpreter that our servers run in."""
    return str(Path(".venv/bin/python"))


def _wait(way: Way, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            way.makers[0]()(0)
        except (grpc.RpcError, OSError) as error:
            if time.monotonic() > deadline:
                raise StageFailed(f"{way.name} does not answer ({type(error).__name__}): {tail(log)}") from error
            time.sleep(1)
        else:
            return


def best(ways: Sequence[Way], found: Mapping[str, float]) -> list[Way]:
    """Return the fastest way of each peer, by rows a second."""
    peers = dict.fromkeys(way.peer for way in ways)
    return [max((way for way in ways if way.peer == peer), key=lambda way: found[way.name]) for peer in peers]
