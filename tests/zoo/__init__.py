"""The models that the onnx package carries, with requests and answers: each is served, or refused with a reason."""
