"""A file served over HTTP/2: asked as a Way is, where there is no model behind."""

import socket
from dataclasses import dataclass
from pathlib import Path

from servepath.artifacts.reference import Reference
from servepath.cli.children import Process
from studies.peers.figures import Codes
from studies.peers.h2load import Aim

CONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Static:
    """A server of one file; takes whatever model it is asked about."""

    address: str
    process: Process
    file: Path

    def aim(self, model: Reference, folder: Path) -> Aim:  # noqa: ARG002 - as a Way's
        """Return where requests go: a GET."""
        return Aim(f"http://{self.address}/{self.file.name}")

    def sample(self, model: Reference) -> tuple[int, int]:  # noqa: ARG002 - as a Way's
        """Return the size of the file twice: each reply must have it."""
        size = self.file.stat().st_size
        return size, size

    def codes(self) -> Codes | None:
        """Return None: a static file server counts nothing."""
        return None

    def unready(self) -> str:
        """Return "" once connections are accepted, else the reason."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), CONNECT_S):
                return ""
        except OSError as error:
            return str(error)
