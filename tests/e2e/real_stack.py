"""All four services on free ports over a given folder of exports: what the end-to-end tests stand on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psutil
from google.protobuf.message import DecodeError

from servepath.protocols import servepath
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import STACKS
from servepath_pb.servepath.v1 import gateway_pb2
from tests import ports
from tests.limits import LONG_S

PORTS = (
    "GATEWAY_PORT",
    "GATEWAY_METRICS_PORT",
    "TORCH_SVC_PORT",
    "TORCH_SVC_GRPC_MANAGEMENT_PORT",
    "TORCH_SVC_HTTP_PORT",
    "TORCH_SVC_MANAGEMENT_PORT",
    "TORCH_SVC_METRICS_PORT",
    "TF_SVC_PORT",
    "ONNX_SVC_PORT",
    "ONNX_SVC_METRICS_PORT",
    "LITERT_SVC_PORT",
    "LITERT_SVC_METRICS_PORT",
)
BACKENDS = ("torch_svc", "tf_svc", "onnx_svc")
READY_S = LONG_S
STOP_S = LONG_S


class RealStack:
    """The services as child processes; logs in FOLDER/SERVICE.log.

    deployments: what the gateway is to serve, where it is not what the repository's file says of these exports.
    """

    def __init__(self, exports: Path, folder: Path, deployments: str = "") -> None:
        self.folder = folder
        self.environment = os.environ | free_ports() | {"TORCH_SVC_TOKEN_FILE": str(folder / "token")}
        for service in ("GATEWAY", *(stack.service.upper() for stack in STACKS.values())):
            self.environment[f"{service}_ADDR"] = f"127.0.0.1:{self.environment[f'{service}_PORT']}"
        self.gateway = self.environment["GATEWAY_ADDR"]
        run = str(folder / "run")
        self._commands = {
            "torch_svc": ["--models", str(exports), "--run-dir", f"{run}/torch"],
            "tf_svc": ["--models", str(exports), "--run-dir", f"{run}/tf"],
            "onnx_svc": ["--models", str(exports)],
            "gateway": ["--exports", str(exports), "--deployments", str(folder / "deployments.toml")],
        }
        file = folder / "deployments.toml"
        if deployments:
            file.write_text(deployments)
            self._paths = sum(len(model.stacks) for model in read_deployments(file).models)
            self._commands = {"litert_svc": ["--models", str(exports)], **self._commands}
        else:
            self._paths = write_deployments(file, exports)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """Start one service; it need not be ready yet."""
        with (self.folder / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", f"services.{service}", *self._commands[service]]
            self.processes[service] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def start_all(self) -> None:
        """Start everything and wait until every path answers its probes."""
        for service in self._commands:
            self.start(service)
        self.wait_ready(self._paths)

    def wait_ready(self, paths: int) -> None:
        """Wait until `paths` paths are ready. Raises TimeoutError with the tails of all logs."""
        with grpc.insecure_channel(self.gateway) as channel:
            end = time.monotonic() + READY_S
            while time.monotonic() < end and all(process.poll() is None for process in self.processes.values()):
                if ready_paths(channel) == paths:
                    return
                time.sleep(0.1)
        raise TimeoutError("\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in self.folder.glob("*.log")))

    def kill(self, service: str) -> list[psutil.Process]:
        """SIGKILL a service's own process; return the processes that it had started."""
        process = self.processes[service]
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_S)
        return children

    def stop_all(self) -> dict[str, int]:
        """SIGTERM everything, the gateway first; return the exit codes."""
        codes = {}
        for service in reversed(list(self.processes)):
            self.processes[service].terminate()
            codes[service] = self.processes[service].wait(STOP_S)
        return codes


def write_deployments(file: Path, exports: Path) -> int:
    """Write the repository's deployments.toml less the paths that have no artifact in `exports`.

    Return their number.
    """
    lines: list[str] = []
    count = 0
    for entry in read_deployments(Path("deployments.toml")).models:
        stacks = [name for name in entry.stacks if (exports / entry.model / STACKS[name].artifact_format).is_dir()]
        if stacks:
            default = entry.default if entry.default in stacks else stacks[0]
            lines += [f"[models.{entry.model}]", f'default = "{default}"']
            lines += [f"[models.{entry.model}.stacks.{stack}]" for stack in stacks]
        count += len(stacks)
    file.write_text("\n".join(lines))
    return count


def ready_paths(channel: grpc.Channel) -> int:
    """Return how many paths a gateway calls ready; 0 while it does not answer."""
    try:
        reply = channel.unary_unary(servepath.LIST_PATHS)(b"", timeout=1)
        return sum(path.ready for path in gateway_pb2.ListPathsResponse.FromString(reply).paths)
    except (grpc.RpcError, DecodeError):
        return 0


def free_ports() -> dict[str, str]:
    """Return a free port for every port that the services use."""
    return dict(zip(PORTS, map(str, ports.free_ports(len(PORTS))), strict=True))
