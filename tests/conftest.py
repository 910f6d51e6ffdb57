"""What all tests share: none fails because the machine is busy or how they were started, none patches the process."""

import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.examples import ALL, EVERY_DAY

# Before anything imports grpc: its fork handlers abort a child that is forked while calls of other tests still end.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Anyone who starts the tests in the background may have had Ctrl-C ignored, which the tests' children would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What needs PyTorch, TensorFlow or what training and export bring; make test-python does without.
NEEDS_FRAMEWORKS = (
    "unit/export",
    "unit/services/tf_svc",
    "unit/services/torch_svc",
    "integration/export",
    "integration/models",
    "integration/training",
    "integration/services/tf_svc",
    "integration/services/torch_svc/test_handler.py",
    "integration/services/torch_svc/test_probe.py",
    "integration/services/onnx_svc/test_real_exports.py",
    "integration/services/litert_svc/test_imported.py",
    "integration/deploy/test_observability.py",
    "integration/loadtest/test_gate.py",
    "integration/test_planted.py",
)
collect_ignore = () if find_spec("torch") else NEEDS_FRAMEWORKS
# For any machine. make test-all has --hypothesis-profile=thorough, which is loaded after this.
for name, count in {"every day": EVERY_DAY, "thorough": ALL}.items():
    settings.register_profile(name, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("every day")


def pytest_collection_finish() -> None:
    """Refuse a test module that imports Locust, which puts gevent's sockets and threads in place of Python's."""
    if "locust" in sys.modules:
        raise pytest.UsageError("a test module imports Locust, which patches this process; start it as a program")


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """Let SIGHUP end what a test starts where the tests themselves ignore it, as under nohup."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)  # children have the default instead of a handler
    yield
    signal.signal(signal.SIGHUP, before)
