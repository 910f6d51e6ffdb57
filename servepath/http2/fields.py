"""Which fields a message may have (RFC 9113, 8.2 and 8.3). What breaks a rule is malformed, and must not be read.

One rule is left out: white space around a value, which gRPC lets a caller send ("may be stripped").
"""

import re
from collections.abc import Collection

from servepath.http2.header_decoder import Pairs

# Of a name no control, space, upper case, DEL or what is not ASCII; a colon in front only. Of a value no NUL, CR or LF.
NAME = re.compile(r":?[!-9;-@\[-~]+")
UNFIT = re.compile(r"[\0\r\n]")
OF_A_CONNECTION = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
OF_A_REQUEST = frozenset((":method", ":scheme", ":authority", ":path"))
# More digits than any length has, and fewer than Python is slow to read.
MAX_DIGITS = 18


def request_fault(pairs: Pairs) -> str:
    """Return what is wrong with a request's fields, or ""."""
    found = dict(pairs)
    needed = [":authority"] if found.get(":method") == "CONNECT" else [":method", ":scheme", ":path"]
    missing = [name for name in needed if not found.get(name)]
    return _fault(pairs, OF_A_REQUEST) or (f"no {missing[0]}" if missing else "")


def trailers_fault(pairs: Pairs) -> str:
    """Return what is wrong with a message's trailers, or ""."""
    return _fault(pairs, ())


def content_length(pairs: Pairs) -> int | None:
    """Return the length that a message declares, None if it does not. Raises ValueError for what is not one number."""
    values = {value for name, value in pairs if name == "content-length"}
    if not values:
        return None
    value = values.pop()
    if values or not (value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS):
        raise ValueError("a content-length that is not one number")
    return int(value)


def _fault(pairs: Pairs, pseudo: Collection[str]) -> str:
    """Return the first thing that is wrong with fields of which those of `pseudo` may come first, once each."""
    left = set(pseudo)
    for name, value in pairs:
        if not NAME.fullmatch(name):
            return "a field name with characters that none may have"
        if UNFIT.search(value):
            return f"a line end or NUL in {name}"
        if name[0] != ":":
            left.clear()
        elif name in left:
            left.remove(name)
        else:
            return f"{name} where it may not be"
        if name in OF_A_CONNECTION or (name == "te" and value.lower() != "trailers"):
            return f"{name}, which belongs to HTTP/1"
    return ""
