"""litert_svc: what it is, and its settings. Nothing else here reads the environment."""

from collections.abc import Sequence

from servepath.artifacts.tflite import FILE
from servepath.protocols.stacks import STACKS
from services.dataplane.options import read_server_settings
from services.oip_server.config import Settings, settings_parser
from services.oip_server.service import OipService

SERVICE = OipService(stack=STACKS["litert"], kind="TFLite", file=FILE, platform="tflite")


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    return Settings(**read_server_settings(settings_parser(SERVICE), "LITERT_SVC", argv))
