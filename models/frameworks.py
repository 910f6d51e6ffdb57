"""Import TensorFlow without its start-up chatter; everything that uses Keras or TensorFlow begins here.

Keras has one backend in a process: TensorFlow, or JAX in one that says so first.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

BACKEND, JAX, FLOATX = "tensorflow", "jax", "float32"


def tensorflow() -> ModuleType:
    """Return the tensorflow module, with Keras on it, silent unless the import fails, in full float32.

    Keras reads none of the user's settings. Raises RuntimeError when it was imported before with others.
    """
    if "tensorflow" not in sys.modules or "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _stderr_only_on_failure(), _our_keras_settings(BACKEND):
            importlib.import_module("tensorflow")
            importlib.import_module("keras")
        # TF32 rounds to 10 bits on recent GPUs. PyTorch leaves it off for matmuls, and the equivalent models must
        # agree.
        sys.modules["tensorflow"].config.experimental.enable_tensor_float_32_execution(False)  # noqa: FBT003 - its API
    _check(BACKEND, "tensorflow")
    return sys.modules["tensorflow"]


def keras_on_jax() -> ModuleType:
    """Return the keras module with JAX as its backend; it reads none of the user's settings.

    Raises RuntimeError when it was imported before with others, TensorFlow among them.
    """
    if "keras" not in sys.modules:
        with _our_keras_settings(JAX):
            importlib.import_module("keras")
    _check(JAX, "keras_on_jax")
    return sys.modules["keras"]


def keras() -> ModuleType:
    """Return the keras module on the backend that this process has it on, TensorFlow where it has it on none.

    Raises RuntimeError when it was imported with settings that are not ours.
    """
    if "keras" in sys.modules and keras_settings()["backend"] == JAX:
        return keras_on_jax()
    tensorflow()
    return sys.modules["keras"]


def keras_settings() -> dict[str, str]:
    """Return what the imported Keras computes with."""
    config = sys.modules["keras"].config
    return {"backend": config.backend(), "floatx": config.floatx()}


def _check(backend: str, function: str) -> None:
    found = keras_settings()
    if found != {"backend": backend, "floatx": FLOATX}:
        raise RuntimeError(f"Keras is imported with {found}; import models.frameworks first and call {function}()")


@contextlib.contextmanager
def _our_keras_settings(backend: str) -> Iterator[None]:
    """Keep keras.json and KERAS_* variables out while Keras is imported, the only time it reads them.

    They choose the backend and the dtype of all weights, and can cap the epochs: a model's weights would depend on who
    trained it, and its export would fail or, worse, not fail.
    """
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERAS_")}
    with tempfile.TemporaryDirectory() as home:  # Keras writes its defaults into it
        ours = {"KERAS_BACKEND": backend, "KERAS_HOME": home}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]
            os.environ.update(kept)


@contextlib.contextmanager
def _stderr_only_on_failure() -> Iterator[None]:
    """Buffer what is written to file descriptor 2: TensorFlow 2.21 logs before its log level applies."""
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
