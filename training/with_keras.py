"""Full-batch SGD in Keras on TensorFlow."""

import tempfile
from pathlib import Path

import numpy as np

from models import frameworks
from models.registry import read_models
from training.run import Diverged, Run, Trained, Watch

tensorflow = frameworks.tensorflow()
import keras  # noqa: E402 - importing it first would print TensorFlow's start-up chatter


def device() -> tuple[str, str]:
    """Return the device to train on, and a line that says what TensorFlow found."""
    found = tensorflow.config.list_physical_devices("GPU")
    for gpu in found:  # else TensorFlow takes all of its memory, and PyTorch trains beside it
        tensorflow.config.experimental.set_memory_growth(gpu, enable=True)
    line = f"tf.config.list_physical_devices('GPU') = {[gpu.name for gpu in found]}"
    which = "" if found else "; GPU: none, training on the CPU"
    return (
        "GPU:0" if found else "CPU:0",
        f"TensorFlow {tensorflow.__version__}, Keras {keras.__version__}: {line}{which}",
    )


def train(run: Run, device: str, watch: Watch) -> Trained:
    """Train from the seeded start; `watch` sees each epoch's loss. Raises Diverged."""
    own = read_models()[run.model].training()
    with tensorflow.device(device):
        model = read_models()[run.model].build()
        model.set_weights(list(own.initial_weights(run.seed).values()))
        model.compile(optimizer=keras.optimizers.SGD(run.lr), loss="mse", jit_compile=False)
        shown = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch(epoch + 1, logs["loss"]))
        history = model.fit(
            own.INPUTS,
            own.TARGETS,
            epochs=run.epochs,
            batch_size=len(own.INPUTS),
            shuffle=False,
            verbose=0,
            callbacks=[shown],
        )
    if not all(np.isfinite(values).all() for values in model.get_weights()):  # losses are those before each step
        raise Diverged(f"a weight is not finite after epoch {run.epochs}; try a smaller --lr")
    losses = [float(loss) for loss in history.history["loss"]]
    framework = f"tensorflow {tensorflow.__version__}, keras {keras.__version__}"
    dtypes = sorted({variable.dtype for variable in model.weights})
    return Trained(
        losses, _saved(model), device, framework, frameworks.keras_settings() | {"weights": ", ".join(dtypes)}
    )


def _saved(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return path.read_bytes()
