"""TorchServe's keys: random at start, dead after an hour. This publishes the inference key and renews it in time.

Renewing makes the old key invalid at once: a caller refused with PERMISSION_DENIED reads the file again (TokenFile).
"""

import http.client
import json
import logging
import time
from pathlib import Path

from servepath.artifacts.atomic import write_file
from services.torch_svc.ports import LOOPBACK

log = logging.getLogger(__name__)
TIMEOUT_S = 2.0
RETRY_S = 5.0


class NoTokens:
    """For a TorchServe that asks for no key."""

    def step(self) -> bool:
        """Return True: nothing is missing."""
        return True

    def withdraw(self) -> None:
        """Remove nothing: there is no key."""


class Keys:
    """Moves the inference key from TorchServe's key file to the published one."""

    def __init__(self, key_file: Path, token_file: Path, port: int, renew_s: float) -> None:
        self._key_file = key_file
        self._token_file = token_file
        self._port = port
        self._renew_s = renew_s
        self._due = 0.0
        self._published = False

    def step(self) -> bool:
        """Publish the first key as soon as it is there, and later ones when they are due; say whether one is out."""
        try:
            if not self._published:
                self._publish()
                self._published = True
                self._due = time.monotonic() + self._renew_s
            elif time.monotonic() >= self._due:
                self._renew()
                self._due = time.monotonic() + self._renew_s
                log.info("renewed the inference key")
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            if self._published:
                self._due = time.monotonic() + RETRY_S
                log.warning("cannot renew the inference key, next attempt in %g s: %r", RETRY_S, error)
            elif self._key_file.exists() and time.monotonic() >= self._due:  # it may be half written for a moment
                if self._due:
                    log.warning("cannot publish the inference key in %s: %r", self._token_file, error)
                self._due = time.monotonic() + RETRY_S
        return self._published

    def withdraw(self) -> None:
        """Remove the published key."""
        self._token_file.unlink(missing_ok=True)

    def _publish(self) -> None:
        write_file(self._token_file, json.loads(self._key_file.read_text())["inference"]["key"], mode=0o600)

    def _renew(self) -> None:
        """Make TorchServe create a new inference key; it writes it to its key file before it answers."""
        api_key = json.loads(self._key_file.read_text())["API"]["key"]
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/token?type=inference", headers={"Authorization": f"Bearer {api_key}"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise ValueError(f"TorchServe answers {response.status} {response.reason}")
        finally:
            connection.close()
            self._publish()  # after a reply that came too late, too: the old key may be invalid already
