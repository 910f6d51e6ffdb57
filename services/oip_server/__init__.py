"""An Open Inference Protocol server over an Engine: a library; services/onnx_svc is one service of it."""
