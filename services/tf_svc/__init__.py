"""The TensorFlow Serving stack: tensorflow_model_server where the machine has one, else an embedded server."""
