"""Read back what training saved with Keras."""

import logging

from export.trained import Trained
from models import frameworks

tensorflow = frameworks.tensorflow()
import keras  # noqa: E402 - importing it first would print TensorFlow's start-up chatter

tensorflow.get_logger().setLevel(logging.ERROR)


def read(trained: Trained) -> keras.Model:
    """Give the trained model; no code in the file is run."""
    return keras.saving.load_model(trained.path, compile=False, safe_mode=True)
