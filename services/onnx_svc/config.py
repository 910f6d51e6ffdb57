"""onnx_svc: what it is, and its settings. Nothing else here reads the environment."""

from collections.abc import Sequence
from dataclasses import dataclass

from servepath.protocols.stacks import STACKS
from servepath.settings import one_of
from services.dataplane.options import read_server_settings
from services.oip_server import config
from services.oip_server.service import OipService

# platform: Triton's name for ONNX models on ONNX Runtime, which clients know.
SERVICE = OipService(stack=STACKS["onnx"], kind="ONNX", file="model.onnx", platform="onnxruntime_onnx")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Settings(config.Settings):
    """Everything that onnx_svc is told from outside. device: one of DEVICES."""

    device: str = "auto"


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    parser = config.settings_parser(SERVICE)
    parser.setting("device", "auto (the GPU if it works), cpu or cuda", kind=one_of(DEVICES), default=Settings.device)
    return Settings(**read_server_settings(parser, "ONNX_SVC", argv))
