"""An Open Inference Protocol server on LiteRT (TensorFlow Lite). Run: python -m services.litert_svc --help."""
