"""keras_dense: one Dense(1) on two inputs in Keras, y = W x + b: the twin of simple_nn."""

import keras


def build() -> keras.Model:
    """Give the model with fresh weights: float32 [batch, 2] named `x` -> float32 [batch, 1] named `y`."""
    return keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1, name="y")], name="keras_dense")
