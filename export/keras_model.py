"""Keras on TensorFlow, and what training saved with it."""

import logging

from export.keras_trained import KERAS_DTYPES, read, read_by_name
from models import frameworks

__all__ = ["KERAS_DTYPES", "read", "read_by_name", "tensorflow"]

tensorflow = frameworks.tensorflow()
tensorflow.get_logger().setLevel(logging.ERROR)
