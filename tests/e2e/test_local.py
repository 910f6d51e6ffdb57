"""`python -m servepath.runner` with the four real services."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servepath.runner.config import SERVICES
from tests.e2e import workplace
from tests.e2e.workplace import Workplace
from tests.limits import LONG_S
from tests.said import read_until

pytestmark = pytest.mark.slow

LOCAL = "servepath.runner"
# Of a command that asks the gateway.
PATIENT = ("--timeout", "120")
PATHS = ("simple_nn@torchserve", "simple_nn@onnx", "keras_dense@tfserving", "keras_dense@onnx")


@pytest.fixture
def here(tmp_path: Path, ready_made: Path) -> Iterator[Workplace]:
    place = workplace.make(tmp_path)
    (tmp_path / "artifacts").symlink_to(ready_made)
    yield place
    place.run(LOCAL, "down")
    assert place.left() == []


def test_up_status_predict_down(here: Workplace) -> None:
    code, text = here.run(LOCAL, "up", "--timeout", "500")
    assert code == 0, text
    assert [name for name in SERVICES if f"{name:10} ready after" in text] == [
        "torch_svc",
        "tf_svc",
        "onnx_svc",
        "gateway",
    ]
    for path in PATHS:
        code, text = here.run("client", "predict", path, "1 2", *PATIENT)
        assert (code, f"served by {path}:" in text) == (0, True), text
    for model in ("simple_nn", "keras_dense"):
        code, text = here.run("client", "ask", model, "--all", "1 2; -3.7 9.1", *PATIENT)
        assert (code, f"EQUAL: 2 paths, compared with {model}@" in text) == (0, True), text
    words = ("deploy.gpu_check", "--here", "--run-dir", str(here.files("gateway").run_dir), "--seconds", "0.2")
    end = time.monotonic() + LONG_S
    code, text = here.run(*words)
    # It shows nothing when a path is not ready just then, or answers after more than three seconds.
    while not all(re.search(rf"{path} .* fp32 ", text) for path in PATHS) and time.monotonic() < end:
        time.sleep(1)
        code, text = here.run(*words)
    for path in PATHS:
        assert re.search(rf"{path} .* fp32 ", text), text
    if shutil.which("nvidia-smi") is None:  # it fails, and all figures are shown first
        assert code == 1, text
        assert "CPUExecutionProvider" in text
        assert "gpu-check failed: there is no NVIDIA GPU" in text
    gateway = (here.folder / ".env").read_text().split("GATEWAY_ADDR=")[1].split()[0]
    here.run_until_0("servepath.client.example", gateway)
    assert here.run_until_0(LOCAL, "status").count("yes") == 4
    before = {name: here.process(name) for name in SERVICES}

    assert here.run_until_0(LOCAL, "up").count("already running, pid") == 4
    assert {name: here.process(name) for name in SERVICES} == before

    code, text = here.run(LOCAL, "down")
    assert (code, text.count("stopped after")) == (0, 4)
    assert here.left() == []
    assert here.run(LOCAL, "down") == (0, "".join(f"{name:10} not running\n" for name in reversed(SERVICES)))
    assert here.run(LOCAL, "status")[0] == 1


def test_a_killed_service_is_noticed_by_name_and_started_again_alone(here: Workplace) -> None:
    assert here.run(LOCAL, "up", "--timeout", "500")[0] == 0
    killed, others = here.process("onnx_svc"), {name: here.process(name) for name in SERVICES if name != "onnx_svc"}
    assert killed is not None
    killed.kill()
    wait_until_gone(here, "onnx_svc")

    code, text = here.run(LOCAL, "status")
    assert code == 1
    assert f"dead: pid {killed.pid} has exited" in " ".join(text.replace("│", " ").split())
    assert here.run_until_0(LOCAL, "up").count("already running") == 3
    assert {name: here.process(name) for name in others} == others
    here.run_until_0(LOCAL, "status")


def test_a_busy_port_is_refused_with_service_and_holder_and_nothing_is_started(here: Workplace) -> None:
    port = int((here.folder / ".env").read_text().split("ONNX_SVC_METRICS_PORT=")[1].split()[0])
    holder = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            code, text = here.run(LOCAL, "up")
        finally:
            process.kill()

    assert code == 1
    assert f"onnx_svc: port {port} is busy (held by pid {process.pid}: " in text
    assert "set ONNX_SVC_METRICS_PORT to another" in text
    assert here.left() == []


def test_a_service_that_cannot_start_is_named_with_the_end_of_its_log(here: Workplace) -> None:
    code, text = here.run(LOCAL, "up", "gateway", FRONT="none")
    assert code == 1
    assert f"gateway ended with exit code 1; the end of {here.files('gateway').log_file}:" in text
    assert "FRONT: 'none' is not one of" in text
    assert here.left() == []


def test_a_list_of_paths_with_a_mistake_is_one_line_and_nothing_is_started(here: Workplace) -> None:
    (here.folder / "deployments.toml").unlink()
    (here.folder / "deployments.toml").write_text("[models.simple_nn]\ndefualt = 'onnx'\n")
    for words in ([], ["gateway"]):
        code, text = here.run(LOCAL, "up", *words)
        assert (code, "line 2: unknown key 'defualt'" in text, text.count("\n")) == (1, True, 1)
    assert here.left() == []


def test_without_exports_the_fix_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    place = workplace.make(tmp_path)
    code, text = place.run(LOCAL, "up")

    assert (code, "holds no exported model; run: make train export" in text) == (1, True)
    assert place.left() == []


@pytest.mark.usefixtures("hangups_count")
@pytest.mark.parametrize(
    ("moment", "number"),
    [("starting", signal.SIGINT), ("listening", signal.SIGINT), ("listening", signal.SIGHUP)],
)
def test_ctrl_c_of_up_or_the_end_of_its_terminal_leaves_nothing(
    here: Workplace, moment: str, number: signal.Signals
) -> None:
    with here.start(LOCAL, "up") as process:
        assert process.stdout is not None
        read_until(process, moment)
        process.send_signal(number)
        text = process.stdout.read()
        code = process.wait(LONG_S)

    assert (code, "Traceback" in text) == (130, False)
    assert here.left() == []


@pytest.mark.parametrize(
    ("path", "artifact", "said"),
    [
        (
            "keras_dense@tfserving",
            "keras_dense/saved_model/1",
            r"tf_svc cannot be used: keras_dense@tfserving is refused by the gateway: output 'y' is \[",
        ),
        # onnx_svc finds out by itself, since it asks the reference before it listens.
        ("simple_nn@onnx", "simple_nn/onnx/1", "away from the reference, beyond rtol"),
    ],
)
def test_a_real_server_that_answers_wrongly_is_caught_by_name(
    here: Workplace, ready_made: Path, path: str, artifact: str, said: str
) -> None:
    exports = here.folder / "planted"
    shutil.copytree(ready_made / "exports", exports)
    shutil.rmtree(exports / artifact)
    plant = (
        f"from pathlib import Path; from tests.planted import plant; plant(Path({str(exports)!r}), {{{path!r}: 2.0}})"
    )
    subprocess.run([sys.executable, "-c", plant], check=True, timeout=LONG_S, cwd=workplace.ROOT)
    code, text = here.run(LOCAL, "up", "--exports", str(exports))

    assert code == 1
    assert re.search(said, text), text
    assert here.left() == []


def test_logs_show_the_end_of_each_chosen_log(here: Workplace) -> None:
    for name, text in (("gateway", "one\ntwo\nthree\n"), ("tf_svc", "four\n")):
        here.files(name).run_dir.mkdir(exist_ok=True)
        here.files(name).log_file.write_text(text)
    code, text = here.run(LOCAL, "logs", "gateway", "tf_svc", "-n", "2")

    run_dir = here.files("gateway").run_dir
    assert (code, text) == (0, f"==> {run_dir}/tf_svc.log <==\nfour\n==> {run_dir}/gateway.log <==\ntwo\nthree\n")


def test_logs_follow_what_is_written_until_ctrl_c(here: Workplace) -> None:
    files = here.files("gateway")
    files.run_dir.mkdir()
    files.log_file.write_text("old\n")
    with here.start(LOCAL, "logs", "gateway", "-f") as process:
        assert process.stdout is not None
        read_until(process, "old\n")
        with files.log_file.open("a") as log:
            log.write("new\n")
        assert process.stdout.readline() == "gateway    | new\n"
        process.send_signal(signal.SIGINT)
        process.stdout.read()

    assert process.returncode == 130


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["up", "gatway"], "'gatway' is not a service; known: torch_svc, tf_svc, onnx_svc, litert_svc, gateway"),
        (["up", "--timeout", "0"], "'0' is not a number of seconds above 0"),
        (["logs", "-n", "x"], "'x' is not a whole number from 0"),
    ],
)
def test_a_bad_command_line_gets_one_line_and_code_2(tmp_path: Path, words: list[str], text: str) -> None:
    code, printed = workplace.make(tmp_path).run(LOCAL, *words)

    assert (code, text in printed, printed.count("\n")) == (2, True, 1)


def test_a_bad_port_gets_one_line_and_code_1(tmp_path: Path) -> None:
    code, printed = workplace.make(tmp_path).run(LOCAL, "up", TF_SVC_PORT="many")

    assert (code, "TF_SVC_PORT: 'many' is not a whole number" in printed, printed.count("\n")) == (1, True, 1)


def wait_until_gone(here: Workplace, service: str) -> None:
    deadline = time.monotonic() + LONG_S
    while here.process(service):
        assert time.monotonic() < deadline
        time.sleep(0.02)
