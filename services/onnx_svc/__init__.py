"""An Open Inference Protocol server on ONNX Runtime. Run: python -m services.onnx_svc --help."""
