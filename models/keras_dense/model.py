"""keras_dense: one Dense(1) on two inputs in Keras, y = W x + b: equivalent to simple_nn."""

from models import frameworks

frameworks.tensorflow()
import keras  # noqa: E402 - importing it first would take the user's settings of Keras


def build() -> keras.Model:
    """Return the model with fresh weights: float32 [batch, 2] named `x` -> float32 [batch, 1] named `y`."""
    return keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1, name="y")], name="keras_dense")
