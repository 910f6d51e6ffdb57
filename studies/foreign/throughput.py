"""Rows a second of an imported model, by every way there is here: `python -m studies.foreign.throughput minilm`.

The model has been imported by `servepath compare` (studies.foreign does that). Closed loop: CALLERS callers with ROWS
rows each, the same requests to all, in turns within each round. In process is ONNX Runtime without any server: the
fastest of several ways to use these cores. The servers: gateway and onnx_svc, TorchServe by its own protocol, and
MLServer with onnx_svc's session settings where .venv-mlserver is there (make e2e makes it).
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from rich.console import Console

from servepath.artifacts.manifest import ArtifactError, artifact_folder, current_version
from servepath.artifacts.names import model_name
from servepath.artifacts.reference import Reference, read_reference
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.children import running, tail
from servepath.cli.free_ports import free_ports
from servepath.cli.signals import run_main
from servepath.demo.compare import Workplace, services
from servepath.demo.stages import StageFailed
from servepath.protocols import oip
from servepath.protocols.arrays import from_values
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.stacks import STACKS, service_files
from servepath.protocols.token import credentials_of
from servepath.protocols.types import Request
from servepath.settings import variables

MLSERVER = Path(".venv-mlserver/bin/python")
MLSERVER_SCRIPT, MLSERVER_MODEL = "tests/interop/serve_mlserver.py", "theirs"
GATEWAY, IN_PROCESS = "gateway and onnx_svc", "in process"
CALL_S, READY_S, GRACE_S = 60.0, 60.0, 10.0
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
# Ways to use two cores: threads that run at once, threads of each run, rows of each run.
WAYS = ((2, 1, 4), (2, 1, 8), (2, 1, 16), (1, 2, 8), (1, 2, 16))
Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputOptions:
    """The command line of `python -m studies.foreign.throughput`."""

    model: str
    callers: int
    rows: int
    group: int
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Way:
    """One way to get answers. callers: makes what each thread calls. rows: of a call."""

    name: str
    callers: Sequence[Callable[[], Call]]
    rows: int


def parse_args(argv: Sequence[str]) -> ThroughputOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="python -m studies.foreign.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=model_name, help="a model in artifacts/compare")
    add("--callers", type=whole(1), default=4, help="callers at once (default: 4)")
    add("--rows", type=whole(1), default=8, help="rows of a request (default: 8)")
    add("--group", type=whole(0), default=0, help="which group of the reference the rows are of (default: 0)")
    add("--seconds", type=positive, default=5.0, help="of each measurement (default: 5)")
    add("--rounds", type=whole(1), default=7, help="measurements of each way (default: 7)")
    return parser.read(ThroughputOptions, argv)


def rows_per_second(way: Way, seconds: float) -> float:
    """Return what the callers of a way got, together. Raises StageFailed when a call fails."""
    counts = [0] * len(way.callers)
    calls = [make() for make in way.callers]
    end = time.perf_counter() + seconds

    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            while time.perf_counter() < end and not failures:
                calls[number]()
                counts[number] += way.rows
        except Exception as error:  # noqa: BLE001 - a caller that stops would pass for a slow server
            failures.append(error)

    begin = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise StageFailed(f"{way.name}: {type(failures[0]).__name__}: {failures[0]}")
    return sum(counts) / (time.perf_counter() - begin)


def asked(reference: Reference, group: int, rows: int) -> Mapping[str, Any]:
    """Return a request of so many rows, those of a group over and over. Raises StageFailed."""
    if not reference.spec.by_rows or group >= len(reference.groups):
        raise StageFailed(f"{reference.model} has no rows to ask, or fewer groups than {group + 1}")
    arrays = reference.groups[group]
    names = [tensor.name for tensor in reference.spec.inputs]
    return {name: np.resize(arrays[name], (rows, *arrays[name].shape[1:])) for name in names}


def in_process(file: Path, reference: Reference, group: int) -> list[Way]:
    """Return the ways without a server."""
    ways = []
    for threads, inner, rows in WAYS:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = inner
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        feed = asked(reference, group, rows)
        name = f"{IN_PROCESS}, {threads} x {inner} threads, {rows} rows"
        ways.append(Way(name, [lambda session=session, feed=feed: lambda: session.run(None, feed)] * threads, rows))  # type: ignore[misc] # bound now
    return ways


@dataclass(frozen=True, slots=True)
class Door:
    """Where and how a server is called."""

    address: str
    method: str
    metadata: Callable[[], Any] = tuple


def served(name: str, door: Door, payload: bytes, options: ThroughputOptions) -> Way:
    """Return a way to a server, one connection for each caller."""

    def make() -> Call:
        channel = grpc.insecure_channel(door.address, (*OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        call: Callable[..., object] = channel.unary_unary(door.method)
        metadata = door.metadata()  # here, since what reads a key that is renewed is for one thread
        return lambda: call(payload, timeout=CALL_S, metadata=metadata)

    return Way(name, [make] * options.callers, options.rows)


def ours(gateway: str, place: Workplace, request: Request, options: ThroughputOptions) -> Iterator[Way]:
    """Yield the gateway and, where the model is on it, TorchServe."""
    through = request._replace(model=f"{place.name}@onnx")
    payload = oip.encode_request(through, through.model, 0)
    yield served(GATEWAY, Door(gateway, oip.METHOD), payload, options)
    if "torchserve" in place.stacks():
        stack, codec, found = STACKS["torchserve"], STACK_CODECS["torchserve"], variables(Path(".env"))
        credentials = credentials_of(stack, service_files({}, (place.folder / "run").resolve()))
        payload = codec.encode_request(request, place.name, 0)
        door = Door(found[stack.address_variable], codec.METHOD, credentials.metadata)
        yield served("torchserve", door, payload, options)


@contextmanager
def mlserver(file: Path, request: Request, options: ThroughputOptions, log: Path) -> Iterator[list[Way]]:
    """Start MLServer, with a worker for each core as it would be deployed; nothing where its environment is missing."""
    if not MLSERVER.exists():
        print(f"no MLServer: {MLSERVER} is missing; run: make {MLSERVER.parts[0]}/.installed")
        yield []
        return
    ports = free_ports(3)
    words = [str(MLSERVER), MLSERVER_SCRIPT, *map(str, ports), str(file.resolve()), "2"]
    with running(words, log, grace_s=GRACE_S):
        payload = oip.encode_request(request._replace(model=MLSERVER_MODEL), MLSERVER_MODEL, 0)
        way = served("mlserver", Door(f"127.0.0.1:{ports[0]}", oip.METHOD), payload, options)
        _wait(way, log)
        yield [way]


def _wait(way: Way, log: Path) -> None:
    call: Call = way.callers[0]()
    deadline = time.monotonic() + READY_S
    while True:
        try:
            call()
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise StageFailed(f"{way.name} does not answer ({error.code().name}): {tail(log)}") from error
            time.sleep(1)
        else:
            return


def measure(options: ThroughputOptions, console: Console) -> dict[str, list[float]]:
    """Return rows a second of each way, a number for each round. Raises StageFailed, ArtifactError."""
    place = Workplace(options.model)
    reference = read_reference(place.exports, place.name)
    file = artifact_folder(place.exports, place.name, "onnx", current_version(place.exports, place.name)) / "model.onnx"
    arrays = asked(reference, options.group, options.rows)
    tensors = tuple(from_values(t.name, t.dtype, arrays[t.name]) for t in reference.spec.inputs)
    request = Request(place.name, 0, tensors)
    with ExitStack() as running_servers:
        gateway = running_servers.enter_context(services(place, console))
        ways = [*in_process(file, reference, options.group), *ours(gateway, place, request, options)]
        ways += running_servers.enter_context(mlserver(file, request, options, place.folder / "mlserver.log"))
        for way in ways:
            rows_per_second(way, options.seconds)  # warm-up: the batcher finds out whether batching pays
        found: dict[str, list[float]] = {way.name: [] for way in ways}
        for number in range(options.rounds):
            for way in ways if number % 2 else reversed(ways):
                found[way.name].append(rows_per_second(way, options.seconds))
            console.print(f"round {number + 1} of {options.rounds}", highlight=False)
    return found


def table(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a line for each way, and the gateway's ratio to the best in process and to each other server, by round."""
    for name, values in found.items():
        yield f"{name}: {statistics.median(values):.1f} rows/s [{min(values):.1f}..{max(values):.1f}]"
    inside = [name for name in found if name.startswith(IN_PROCESS)]
    best = max(inside, key=lambda name: statistics.median(found[name]))
    for other in (best, *(name for name in found if name not in (*inside, GATEWAY))):
        ratios = [mine / theirs for mine, theirs in zip(found[GATEWAY], found[other], strict=True)]
        yield f"{GATEWAY} / {other}: {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, return the exit code."""
    options = parse_args(argv)
    try:
        found = measure(options, Console())
    except (StageFailed, ArtifactError) as failure:
        print(f"python -m studies.foreign.throughput: {failure}", file=sys.stderr)
        return 1
    for line in table(found):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
