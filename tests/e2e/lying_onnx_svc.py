"""A server in onnx_svc's place that computes with the real models and adds 1 to every 50th answer.

Started as onnx_svc is: `python lying_onnx_svc.py -m services.onnx_svc --models DIR --port N --metrics-port N`. With
LIE_EVERY=1000 in the environment it is every 1,000th.
"""

import argparse
import asyncio
import os
from pathlib import Path

import onnxruntime

from servepath.artifacts.manifest import artifact_folder, current_version, read_manifest
from servepath.protocols.arrays import from_values, to_array
from servepath.protocols.types import Answer, Provenance
from services.dataplane.backend import Call
from tests.fake_stack import FakeBackend, FakeStack

EVERY = int(os.environ.get("LIE_EVERY", "50"))


class Model:
    """One exported model and who it says it is."""

    def __init__(self, exports: Path, name: str) -> None:
        folder = artifact_folder(exports, name, "onnx", current_version(exports, name))
        manifest = read_manifest(folder)
        self.session = onnxruntime.InferenceSession(folder / "model.onnx")
        self.served = Provenance(name, "onnx", "a liar", "1", manifest.version, manifest.sha256, sha256_observed=True)
        self.served = self.served._replace(precision="fp32")


class Liar(FakeBackend):
    """Answers correctly, but for one time in EVERY."""

    def __init__(self, exports: Path) -> None:
        super().__init__()
        self.models = {path.parent.name: Model(exports, path.parent.name) for path in exports.glob("*/current")}
        self.answered = 0

    def answer(self, call: Call) -> Answer:
        model = self.models[call.request.model]
        (y,) = model.session.run(["y"], {"x": to_array(call.request.inputs[0])})
        self.answered += 1
        lie = 1 if self.answered % EVERY == 0 else 0
        self.calls.clear()
        return Answer((from_values("y", "FP32", y + lie),), model.served)


async def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("-m", "--models", "--port", "--metrics-port"):
        parser.add_argument(name)
    options = parser.parse_args()
    await FakeStack(Liar(Path(options.models)), int(options.port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
