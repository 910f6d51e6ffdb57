"""The version of a server whose replies do not tell it, read from the file that its service writes while it runs."""

import os
from collections.abc import Mapping
from pathlib import Path

from servepath.protocols.watched import WatchedText

# RUN_DIR/tf_svc/version, one line: the version that tensorflow_model_server prints.
NAME = "version"
FILE_VARIABLE = "TF_SVC_VERSION_FILE"
DEFAULT_FILE = Path(".run/tf_svc") / NAME
UNKNOWN = "version not reported"


class VersionFile:
    """The version that is in the file now; looked at twice a second at most."""

    def __init__(self, path: Path) -> None:
        self._text = WatchedText(path)

    def version(self) -> str:
        """Return the version, or "version not reported" where there is no file."""
        return self._text.text() or UNKNOWN


def path_from(environment: Mapping[str, str | None] = os.environ) -> Path:
    """Return where the file is."""
    return Path(environment.get(FILE_VARIABLE) or DEFAULT_FILE)
