"""`python -m tests.zoo [KIND ...]`: import every model of the zoo, serve all of them, ask each what ONNX asks.

A model counts as served when onnx_svc answers through the gateway what the ONNX project expects, as refused when the
import says why in one sentence. Exit code 1 when one is neither.
"""

import collections
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from export.importing import store
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.steps import read_onnx
from servepath.artifacts.spec import Spec, Tolerance
from servepath.cli.free_ports import free_ports
from servepath.client import Client, PredictError
from tests.limits import LONG_S
from tests.zoo.cases import KINDS, Case, cases


def main(kinds: list[str]) -> int:
    """Print a line per kind and per reason; return the exit code."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        found = dict(run(kinds or KINDS, Path(folder)))
    counts = collections.Counter(outcome.partition(":")[0] for outcome in found.values())
    reasons = collections.Counter(_kind_of(outcome) for outcome in found.values() if outcome.startswith("refused"))
    for reason, count in reasons.most_common():
        print(f"{count:5}  {reason}")
    for name, outcome in found.items():
        if outcome.startswith("WRONG"):
            print(f"{name}: {outcome}")
    drawn = f"{counts['drawn']} served and asked nothing but drawn inputs"
    wrong = f"{counts['refused']} refused, {counts['WRONG']} wrong"
    print(f"{len(found)} models: {counts['served']} served, {drawn}, {wrong}")
    return 1 if counts["WRONG"] or not counts["served"] else 0


def run(kinds: tuple[str, ...] | list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each case's name and outcome: "served", "drawn", "refused: WHY" or "WRONG: WHAT"."""
    exports, deployments = folder / "exports", folder / "deployments.toml"
    imported: dict[str, Case] = {}
    tables = []
    for kind in kinds:
        for case in cases(kind):
            name = f"{kind}.{case.name}"
            try:
                _import(case, exports, name)
            except Refused as error:
                yield name, f"refused: {error}"
            else:
                imported[name] = case
                tables.append(f'[models."{name}"]\ndefault = "onnx"\n[models."{name}".stacks.onnx]\n')
    deployments.write_text("".join(tables))
    with serving(exports, deployments) as address, Client(address) as client:
        for name, case in imported.items():
            yield name, _ask(client, exports, name, case)


def _import(case: Case, exports: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        path = Path(work, "model.onnx")
        path.write_bytes(case.model.SerializeToString())
        hints = Hints(tolerance=Tolerance(case.rtol, case.atol)) if case.samples else Hints()
        read_onnx(Path(work), path, hints, name, case.samples)
        store.store(exports, name, store.fingerprint([path]), Path(work))


def _ask(client: Client, exports: Path, name: str, case: Case) -> str:
    """Return the outcome of the case's own requests, asked by the public names."""
    spec = Spec.from_dict(json.loads((exports / name / "onnx" / "1" / "manifest.json").read_text())["spec"])
    if not case.samples:
        return "drawn"  # its own requests are not made of tensors
    for sample in case.samples:
        asked = {tensor.name: sample[tensor.name] for tensor in spec.inputs}
        wanted = {tensor.name: sample[tensor.name] for tensor in spec.outputs}
        try:
            answer = client.predict(name, asked, timeout_s=LONG_S)
        except PredictError as error:
            return f"WRONG: {error}"
        if what := _difference(answer.outputs, wanted, case):
            return f"WRONG: {what}"
    return "served"


def _difference(answer: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], case: Case) -> str:
    for name, wanted in expected.items():
        if answer[name].shape != wanted.shape or answer[name].dtype != wanted.dtype:
            return f"{name} is {answer[name].dtype} {answer[name].shape}, expected {wanted.dtype} {wanted.shape}"
        if not np.allclose(answer[name], wanted, rtol=case.rtol, atol=case.atol, equal_nan=True):
            return f"{name} is {answer[name].ravel()[:4]}, expected {wanted.ravel()[:4]}"
    return ""


@contextmanager
def serving(exports: Path, deployments: Path) -> Iterator[str]:
    """Serve a store by onnx_svc behind a gateway; yield the gateway's address once every path answers."""
    onnx, onnx_metrics, port, metrics = free_ports(4)
    environment = {"PATH": "/usr/bin:/bin", "ONNX_SVC_ADDR": f"127.0.0.1:{onnx}", "TORCH_SVC_ADDR": "127.0.0.1:1"}
    environment |= {"TF_SVC_ADDR": "127.0.0.1:1", "LITERT_SVC_ADDR": "127.0.0.1:1"}
    own = ["--models", str(exports), "--port", str(onnx), "--metrics-port", str(onnx_metrics), "--device", "cpu"]
    ours = ["--deployments", str(deployments), "--exports", str(exports), "--port", str(port)]
    commands = [["services.onnx_svc", *own], ["services.gateway", *ours, "--metrics-port", str(metrics)]]
    logs = [exports.parent / f"{command[0]}.log" for command in commands]
    processes = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("w") as file:
                processes.append(
                    subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=file, stdout=file)
                )
        _wait(f"127.0.0.1:{port}", processes, logs)
        yield f"127.0.0.1:{port}"
    finally:
        for process in processes:
            process.terminate()
            process.wait(LONG_S)


def _wait(address: str, processes: list[subprocess.Popen[bytes]], logs: list[Path]) -> None:
    end = time.monotonic() + LONG_S
    with Client(address) as client:
        while True:
            for process, log in zip(processes, logs, strict=True):
                if process.poll() is not None:
                    raise RuntimeError(f"a server ended: {log.read_text()[-1000:]}")
            try:
                waiting = [path.name for path in client.list_paths() if not path.ready]
            except PredictError:
                waiting = ["the gateway"]
            if not waiting:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"not ready: {', '.join(waiting[:10])}; {logs[1].read_text()[-1000:]}")
            time.sleep(0.2)


def _kind_of(outcome: str) -> str:
    """Return a reason without the names in it, to count by."""
    return re.sub(r"'[^ ]*'", "'...'", outcome.removeprefix("refused: "))[:110]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
