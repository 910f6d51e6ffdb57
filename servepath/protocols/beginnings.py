"""Requests recognised by how they begin, so that only what differs from call to call is read of most of them.

A caller's messages mostly differ in one tensor's elements alone, and these come last. What stands before them is parsed
when it comes for the first and second time, and looked up from then on: that takes a fifth of the time.
"""

from collections.abc import Callable
from typing import NamedTuple

from servepath.protocols.types import Request, Tensor

# Beginnings that are known, their lengths among messages of one size, and those seen once; bytes of one.
MAX_KNOWN, MAX_LENGTHS, MAX_SEEN = 256, 4, 4096
MAX_BEGINNING = 512


class _Known(NamedTuple):
    """What was read of a beginning: of the request, of its tensor, and what follows the request's inputs (rest)."""

    model: str
    version: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    rest: tuple[tuple[str, ...], str, bool, int]


class Beginnings:
    """Reads requests of one protocol.

    parse: gives the request of a message, or raises. head: gives what stands before contents of so many bytes, a
    length-delimited field's tag and length. is_message: says whether bytes are a whole message by themselves.
    """

    def __init__(
        self, parse: Callable[[bytes], Request], head: Callable[[int], bytes], is_message: Callable[[bytes], bool]
    ) -> None:
        self._parse = parse
        self._head = head
        self._is_message = is_message
        self._known: dict[bytes, _Known] = {}
        # By the size of the whole message: how long known beginnings are.
        self._lengths: dict[int, tuple[int, ...]] = {}
        self._seen: set[int] = set()

    def read(self, payload: bytes) -> Request:
        """Return the request of a message. Raises what `parse` raises."""
        for length in self._lengths.get(len(payload), ()):
            known = self._known.get(payload[:length])
            if known is not None:
                # Unpacked at once and Rebuilt: attributes and _replace take longer.
                model, version, name, dtype, shape, (outputs, request_id, typed, timeout_us) = known
                tensor = Tensor(name, dtype, shape, payload[length:])
                return Request(model, version, (tensor,), outputs, request_id, typed, timeout_us)
        request = self._parse(payload)
        # Those with an id all begin again.
        if len(request.inputs) == 1 and not request.request_id:
            self._learn(payload, request)
        return request

    def _learn(self, payload: bytes, request: Request) -> None:
        """Know a beginning from its second time on, if all that follows is the only tensor's contents.

        That is proven without looking at the contents: where what stands before their head is a whole message, the head
        begins a field of its own, which is as long as the rest, whatever is in it.
        """
        name, dtype, shape, data = request.inputs[0]
        length = len(payload) - len(data)
        if length > MAX_BEGINNING:
            return
        beginning, head = payload[:length], self._head(len(data))
        if not beginning.endswith(head):
            return
        digest = hash(beginning)
        if digest not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen.add(digest)
        elif self._is_message(beginning[: -len(head)]):
            self._keep(len(payload), beginning, _Known(request.model, request.version, name, dtype, shape, request[3:]))

    def _keep(self, size: int, beginning: bytes, known: _Known) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._lengths.clear()
        lengths = self._lengths.get(size, ())
        if len(beginning) not in lengths:
            if len(lengths) >= MAX_LENGTHS:
                return
            self._lengths[size] = (*lengths, len(beginning))
        self._known[beginning] = known
