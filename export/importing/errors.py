"""Why a model cannot be imported, or not for one stack: one sentence."""

from export.errors import ExportError


class Refused(ExportError):
    """The model, or one format of it, cannot be served; the text is one sentence with the reason."""
