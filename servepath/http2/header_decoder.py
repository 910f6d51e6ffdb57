"""Header blocks, read once each: equal ones mean equal headers, since the peer may use no table (RFC 7541)."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import hpack

from servepath.http2.frames import COMPRESSION_ERROR, ProtocolError

MAX_HEADER_LIST = 2**17
# Blocks that repeat are small; varying ones must neither fill the memory nor drive the others out for good.
MAX_KNOWN_BLOCKS = 256
MAX_KNOWN_BLOCK = 2**10
# A byte of a block may name a whole entry of HPACK's static table.
MAX_KNOWN_PAIRS = 64

Pairs = Sequence[tuple[str, str]]
Parsed = TypeVar("Parsed")


class HeaderDecoder(Generic[Parsed]):
    """Reads one peer's header blocks and gives what `factory` makes of their names and values.

    Until the peer has acknowledged that it may use no table (`settled`), its blocks depend on those before.
    """

    def __init__(self, factory: Callable[[Pairs], Parsed], *, settled: bool) -> None:
        self._factory = factory
        self._decoder = hpack.Decoder(MAX_HEADER_LIST)
        self._settled = False
        self._known: dict[bytes, Parsed] = {}
        if settled:
            self.disable_table()

    def disable_table(self) -> None:
        """Disable the dynamic table for the peer's header blocks from now on."""
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0  # also of a peer that does not say so in its next block
        self._settled = True

    def read(self, block: bytes) -> Parsed:
        """Read a block. Raises ProtocolError."""
        factory = self._known.get(block)
        if factory is None:
            pairs = self._decode(block)
            factory = self._factory(pairs)
            if self._settled and len(block) <= MAX_KNOWN_BLOCK and len(pairs) <= MAX_KNOWN_PAIRS:
                if len(self._known) >= MAX_KNOWN_BLOCKS:
                    self._known.clear()
                self._known[block] = factory
        return factory

    def _decode(self, block: bytes) -> Pairs:
        try:
            return [(_text(name), _text(value)) for name, value in self._decoder.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError, ValueError) as error:
            raise ProtocolError("an unreadable header block", COMPRESSION_ERROR) from error


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
