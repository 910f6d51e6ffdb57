"""Start the real torch_svc, look at its processes, and call it through our codec."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from servepath.protocols import torchserve
from servepath.protocols.token import Metadata, TokenFile
from servepath.protocols.types import Answer, Request, Tensor
from services.torch_svc.config import PORTS
from tests.limits import LONG_S
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
START_S = LONG_S
END_S = LONG_S
WHOLE = 3  # processes: the entry point, the JVM and one worker


def torch_ports() -> dict[str, int]:
    """Return a free port for each of TorchServe's five uses."""
    return dict(zip(PORTS, free_ports(len(PORTS)), strict=True))


@dataclass
class TorchSvc:
    """One started torch_svc. tree: its descendants when last looked."""

    process: "subprocess.Popen[bytes]"
    run_dir: Path
    log_file: Path
    ports: dict[str, int]

    @property
    def port(self) -> int:
        return self.ports["inference"]

    @property
    def token(self) -> TokenFile:
        return TokenFile(self.run_dir / "token")

    def log(self) -> str:
        return self.log_file.read_text()

    def tree(self) -> list[psutil.Process]:
        """Return the entry point, the JVM and its workers, in this order."""
        entry = psutil.Process(self.process.pid)
        return [entry, *entry.children(recursive=True)]

    def whole_tree(self) -> list[psutil.Process]:
        """Wait until the one worker runs; return its tree."""
        give_up = time.monotonic() + START_S
        while len(tree := self.tree()) != WHOLE:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < give_up, tree
            time.sleep(0.05)
        return tree

    def wait_for(self, text: str) -> None:
        """Wait until its log has `text`; fail with the log when it ends before."""
        give_up = time.monotonic() + START_S
        while text not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < give_up, self.log()
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(END_S)


class Client:
    """Predictions through our codec, over one channel."""

    def __init__(self, channel: grpc.Channel, token: TokenFile) -> None:
        self._call = channel.unary_unary(torchserve.METHOD)
        self._token = token

    def start(self, data: bytes, *, model: str = "simple_nn", metadata: Metadata | None = None) -> grpc.Future:
        """Send rows of x as bytes."""
        request = Request(model, 0, (Tensor("x", "FP32", (len(data) // 8, 2), data),))
        payload = torchserve.encode_request(request, model, 0)
        sent = self._token.metadata() if metadata is None else metadata
        return self._call.future(payload, timeout=LONG_S, metadata=sent)

    def predict(self, data: bytes, *, model: str = "simple_nn", metadata: Metadata | None = None) -> Answer:
        """Send rows of x as bytes and return the answer. Raises ServeError as the gateway would."""
        return self.answer(self.start(data, model=model, metadata=metadata))

    def answer(self, future: grpc.Future) -> Answer:
        try:
            return torchserve.decode_answer(future.result(), "simple_nn", "torchserve")
        except grpc.RpcError as error:
            raise torchserve.translate(error.code(), error.details() or "") from error


@contextlib.contextmanager
def client_of(service: TorchSvc) -> Iterator[Client]:
    options = (("grpc.max_receive_message_length", -1),)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}", options) as channel:
        yield Client(channel, service.token)


@contextlib.contextmanager
def started(exports: Path, run_dir: Path, *options: str, ports: dict[str, int] | None = None) -> Iterator[TorchSvc]:
    """Start torch_svc on free ports, and see that it is gone in the end."""
    ports = ports or torch_ports()
    variables = {port.variable: str(ports[field]) for field, port in PORTS.items()}
    log_file = run_dir.parent / f"{run_dir.name[:40]}.log"
    command = ["--models", str(exports), "--run-dir", str(run_dir), *options]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.torch_svc", *command],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield TorchSvc(process, run_dir, log_file, ports)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(END_S)


def remaining(tree: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes of a recorded tree that are still there after a while."""
    return list(psutil.wait_procs(tree, timeout=LONG_S)[1])
