"""Streams that were ended here before the peer had ended them: what still comes of them was on its way (RFC 9113, 5.1).

On any other stream that has ended nothing more may come but what is harmless.
"""

from servepath.http2.frames import STREAM_CLOSED, ProtocolError


class EarlyEnds:
    """Remembers such streams; `most` of them, for as many as a peer may have open it may not know the end of."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: set[int] = set()
        # Up to this number they were too many to be remembered.
        self._forgotten = 0

    def add(self, number: int, newest: int) -> None:
        """Remember a stream; `newest` is the highest number that the peer has used."""
        if len(self._numbers) >= self._most:
            self._numbers.clear()
            self._forgotten = newest
        self._numbers.add(number)

    def __contains__(self, number: int) -> bool:
        """Return whether what comes of a stream is ignored."""
        return number in self._numbers or number <= self._forgotten

    def take(self, number: int, *, ended: bool) -> None:
        """Take what comes of a stream that is not open any more; `ended` says that it was the last of it.

        Raises ProtocolError where the peer had ended it.
        """
        if number in self._numbers:
            if ended:
                self._numbers.remove(number)
        elif number > self._forgotten:
            raise after_end()


def after_end() -> ProtocolError:
    """Return the error of a peer that goes on after the end of a stream."""
    return ProtocolError("a frame after the end of its stream", STREAM_CLOSED)
