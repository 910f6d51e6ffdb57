"""Import TensorFlow without its start-up chatter; everything that uses Keras or TensorFlow begins here."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType


def tensorflow() -> ModuleType:
    """Give the tensorflow module, with Keras on it, silent unless the import fails, in full float32."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _stderr_only_on_failure():
            importlib.import_module("tensorflow")
            importlib.import_module("keras")
        # TF32 rounds to 10 bits on recent GPUs. PyTorch leaves it off for matmuls, and the twins must agree.
        sys.modules["tensorflow"].config.experimental.enable_tensor_float_32_execution(False)  # noqa: FBT003 - its API
    return sys.modules["tensorflow"]


@contextlib.contextmanager
def _stderr_only_on_failure() -> Iterator[None]:
    """Hold back what is written to file descriptor 2: TensorFlow 2.21 logs before its log level applies."""
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
