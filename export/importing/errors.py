"""Why a model cannot be imported, or not for one stack: one sentence."""

from export.errors import ExportError

# What import reads.
TAKEN = (
    "an ONNX file (its external data beside it), a SavedModel's folder, a .keras or TFLite file, a program of "
    "torch.export (.pt2), a TorchScript file, a Python file with safetensors weights beside it, or a Hugging Face "
    "folder"
)


class Refused(ExportError):
    """The model, or one format of it, cannot be served; the text is one sentence with the reason."""
