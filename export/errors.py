"""What can go wrong with an export.

ExportError        the model is not trained, or its artifact cannot be made; the text names it and the fix
 +- ParityError    the artifact was made and does not agree with the reference: it is not kept
"""


class ExportError(Exception):
    """The artifact cannot be made."""


class ParityError(ExportError):
    """The artifact's answers are too far from the reference."""
