"""What an open loop shows and a closed one hides, what a generator that lags looks like, and a server that lies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from pyarrow import parquet

from tests.e2e.real_stack import RealStack
from tests.limits import LONG_S
from tests.said import read_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# The path's block comes before the no-op server's with this seed.
PLAN = ("--paths=simple_nn@onnx", "--via=direct", "--rounds=1", "--rate=500", "--warmup=1", "--seed=1")
STOP_S = 0.5
SLOW_US = 30_000
# What a signal may take to arrive, and the clocks of two processes may differ.
MARGIN_NS = 20_000_000
CORE = max(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, ready_made: Path) -> Iterator[RealStack]:
    stack = RealStack(ready_made / "exports", tmp_path_factory.mktemp("loaded"))
    stack.start("onnx_svc")
    try:
        with grpc.insecure_channel(stack.environment["ONNX_SVC_ADDR"]) as channel:
            grpc.channel_ready_future(channel).result(timeout=LONG_S)
        yield stack
    finally:
        stack.stop_all()


def start(
    stack: RealStack, exports: Path, out: Path, *command: str, core: int | None = None
) -> "subprocess.Popen[str]":
    places = (f"--exports={exports}", f"--out={out}", f"--deployments={ROOT}/deployments.toml")
    cores = os.sched_getaffinity(0) if core is None else {core}
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest", *PLAN, *places, *command],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - this test has no thread of its own
    )


def rows(out: Path) -> dict[str, np.ndarray]:
    table = parquet.read_table(next(out.glob("latest/rows/*simple_nn*")), filters=[("phase", "=", "measure")])
    names = ("sent_ns", "scheduled_ns", "service_us", "response_us", "ok")
    return {name: table[name].to_numpy() for name in names}


def load_and_stop(
    stack: RealStack, exports: Path, out: Path, *words: str
) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Load for 10 s, with one stop of the server in the middle.

    Return the rows of the path, and from when to when the server certainly stood still, by the clock of `sent_ns`.
    """
    server = stack.processes["onnx_svc"]
    with start(stack, exports, out, "--duration=10", *words) as process:
        assert process.stdout is not None
        read_until(process, "warm-up: ")
        time.sleep(4)
        server.send_signal(signal.SIGSTOP)
        begin_ns = time.time_ns() + MARGIN_NS
        time.sleep(STOP_S)
        end_ns = time.time_ns() - MARGIN_NS
        server.send_signal(signal.SIGCONT)
        end = time.monotonic() + LONG_S
        while not list(out.glob("latest/rows/*simple_nn*")) and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)  # the no-op server's block is not needed
    return rows(out), (begin_ns, end_ns)


def test_a_stopped_server_is_in_the_open_loops_response_times_and_not_in_a_closed_loops(
    stack: RealStack, ready_made: Path, tmp_path: Path
) -> None:
    exports = ready_made / "exports"
    # At 100 a second a busy machine that pauses has few requests waiting.
    opened, _ = load_and_stop(stack, exports, tmp_path / "open", "--rate=100")
    closed, (begin_ns, end_ns) = load_and_stop(stack, exports, tmp_path / "closed", "--closed-loop", "--users=1")

    assert len(opened["ok"]) == 1000
    assert opened["ok"].all()
    # Of some 50 requests that were due meanwhile, some 47 had to wait longer than SLOW_US: more than one in a hundred.
    assert np.mean(opened["response_us"] > SLOW_US) > 0.01
    # The one caller was held up once, and asked nothing meanwhile.
    assert ((closed["sent_ns"] > begin_ns) & (closed["sent_ns"] < end_ns)).sum() <= 1
    assert closed["service_us"].max() > SLOW_US


def test_a_generator_on_a_busy_core_says_by_its_rows_that_it_lagged(
    stack: RealStack, ready_made: Path, tmp_path: Path
) -> None:
    spin = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{CORE}}})\nwhile True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(3)]
    try:
        command = ("--no-real-time", "--duration=2", "--warmup=1")
        with start(stack, ready_made / "exports", tmp_path, *command, core=CORE) as process:
            process.communicate(timeout=LONG_S)
    finally:
        for spinner in spinning:
            spinner.kill()
            spinner.wait()

    assert process.returncode == 0
    found = rows(tmp_path)
    # Such a run is INVALID: more than 1 % of the requests left more than 1 ms late.
    assert np.mean(found["sent_ns"] - found["scheduled_ns"] > 1_000_000) > 0.01


def test_one_wrong_answer_in_a_thousand_is_named_and_such_a_path_has_no_latency(
    ready_made: Path, tmp_path: Path
) -> None:
    exports = ready_made / "exports"
    stack = RealStack(exports, tmp_path)
    port = stack.environment["ONNX_SVC_ADDR"].rpartition(":")[2]
    command = [sys.executable, str(ROOT / "tests/e2e/lying_onnx_svc.py"), f"--models={exports}", f"--port={port}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=stack.environment | {"LIE_EVERY": "1000", "PYTHONPATH": str(ROOT)}
    ) as liar:
        try:
            with grpc.insecure_channel(stack.environment["ONNX_SVC_ADDR"]) as channel:
                grpc.channel_ready_future(channel).result(timeout=LONG_S)
            with start(stack, exports, tmp_path, "--closed-loop", "--min-requests=6000") as process:
                process.communicate(timeout=LONG_S)
        finally:
            liar.kill()
    assert process.returncode == 0
    judged = subprocess.run(
        [sys.executable, "-m", "report", str(tmp_path / "latest")],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    summary = json.loads((tmp_path / "latest/summary.json").read_text())
    (path,) = summary["paths"]
    assert judged.returncode == 1
    assert path["requests"] >= 6000
    assert path["errors"] == 0
    # One in a thousand, but for answers that overtake one another where the warm-up and the measurement end.
    assert abs(path["wrong_answers"] - path["requests"] / 1000) < 2
    named = f"simple_nn@onnx direct: {path['wrong_answers']} of {path['requests']:,} responses are incorrect"
    assert any(reason.startswith(named) for reason in summary["reasons"])
    assert not any(value for name, value in path.items() if name.endswith("_ms"))
    assert summary["verdicts"] == []
