"""Messages recognised by how they begin, so that only what differs from one to the next is read of most of them.

A caller's requests mostly differ in one tensor's elements alone, a server's replies too, and these come last. What
stands before them is parsed when it comes for the first and second time, and looked up from then on: that takes a fifth
of the time.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

# Beginnings that are known, their lengths among messages of one size, and those seen once; bytes of one.
MAX_KNOWN, MAX_LENGTHS, MAX_SEEN = 256, 4, 4096
MAX_BEGINNING = 512


Read = TypeVar("Read")
# What a message says when its contents are these.
WithContents = Callable[[bytes], Read]


class Beginnings(Generic[Read]):
    """Reads messages of one kind.

    parse: gives what a message says, or raises. contents: gives the only contents in what was read, and what it says
    with others of as many bytes; None where that is not worth knowing. head: gives what stands before contents of so
    many bytes, a length-delimited field's tag and length. is_message: says whether bytes are a whole message by
    themselves.
    """

    def __init__(
        self,
        parse: Callable[[bytes], Read],
        contents: Callable[[Read], tuple[bytes, WithContents[Read]] | None],
        head: Callable[[int], bytes],
        is_message: Callable[[bytes], bool],
    ) -> None:
        self._parse = parse
        self._contents = contents
        self._head = head
        self._is_message = is_message
        # By how a message begins: the size of the whole, and what it says.
        self._known: dict[bytes, tuple[int, WithContents[Read]]] = {}
        # By the size of the whole message: how long known beginnings are.
        self._lengths: dict[int, tuple[int, ...]] = {}
        self._seen: set[int] = set()

    def read(self, payload: bytes) -> Read:
        """Return what a message says. Raises what `parse` raises."""
        size = len(payload)
        for length in self._lengths.get(size, ()):
            known = self._known.get(payload[:length])
            # Another size: something follows the contents.
            if known is not None and known[0] == size:
                return known[1](payload[length:])
        read = self._parse(payload)
        found = self._contents(read)
        if found is not None:
            self._learn(payload, *found)
        return read

    def _learn(self, payload: bytes, contents: bytes, with_contents: WithContents[Read]) -> None:
        """Know a beginning from its second time on, if all that follows is the contents.

        That is proven without looking at the contents: where what stands before their head is a whole message, the head
        begins a field of its own, which is as long as the rest, whatever is in it.
        """
        length = len(payload) - len(contents)
        if length > MAX_BEGINNING:
            return
        beginning, head = payload[:length], self._head(len(contents))
        if not beginning.endswith(head):
            return
        digest = hash(beginning)
        if digest not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen.add(digest)
        elif self._is_message(beginning[: -len(head)]):
            self._keep(len(payload), beginning, with_contents)

    def _keep(self, size: int, beginning: bytes, with_contents: WithContents[Read]) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._lengths.clear()
        lengths = self._lengths.get(size, ())
        if len(beginning) not in lengths:
            if len(lengths) >= MAX_LENGTHS:
                return
            self._lengths[size] = (*lengths, len(beginning))
        self._known[beginning] = size, with_contents
