"""Why a model cannot be imported, or not for one stack: one sentence."""

from export.errors import ExportError

# For a refusal of what is something else.
TAKEN = (
    "import takes an ONNX file, a SavedModel's folder, a .keras file, a TFLite file, a program of torch.export, a "
    "TorchScript file, a Python file with safetensors weights beside it and a Hugging Face folder"
)


class Refused(ExportError):
    """The model, or one format of it, cannot be served; the text is one sentence with the reason."""
