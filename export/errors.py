"""What can go wrong with an export.

ExportError        the model is not trained, or its artefact cannot be made; the text names it and the mend
 +- ParityError    the artefact was made and does not agree with the reference: it is not kept
"""


class ExportError(Exception):
    """The artefact cannot be made."""


class ParityError(ExportError):
    """The artefact's answers are too far from the reference."""
