"""Every error has a code, and every refusal of every server becomes one of ours without a word of the server's."""

from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from grpc import StatusCode

from servepath.protocols import error_mapping, errors, tfserving, torchserve
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.status import CODES, code_of, text_of

# A path, a host, another program's exception: none of it may reach a client.
FOREIGN = ("/srv/models/private.mar", "worker-7.internal:9000", "java.lang.NullPointerException")
# No server's refusal, and no error of ours, ends a call with these.
NEVER = (StatusCode.OK, StatusCode.UNKNOWN)
# What the codecs read in a server's text, to take every way through them.
FRAGMENTS = sorted(
    {"", *(text for _, text, _ in (*torchserve.ERROR_BY_TEXT, *tfserving.ERROR_BY_TEXT, *error_mapping.LIBRARY))}
)


def subclasses(base: type) -> Iterator[type]:
    for one in base.__subclasses__():
        yield one
        yield from subclasses(one)


def uncoded(base: type, codes: Mapping[type, StatusCode]) -> Iterator[str]:
    """Yield what is wrong with a table from errors to codes."""
    for one in {*subclasses(base)} ^ codes.keys():
        yield f"{one.__name__}: in only one of the tree and the table"
    for one, code in codes.items():
        if code in NEVER:
            yield f"{one.__name__}: {code.name} never leaves a server"


def mistranslated(codec: Any, fragments: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a codec's translations of all 17 codes, whatever the server's text."""
    for code in StatusCode:
        for fragment in fragments:
            said = f"{FOREIGN[0]}: {fragment} at {FOREIGN[1]} {FOREIGN[2]}"
            try:
                error = codec.translate(code, said)
            except KeyError:
                yield f"{code.name} {fragment!r}: not in the table"
                continue
            if type(error) not in CODES or code_of(error) in NEVER:
                yield f"{code.name} {fragment!r}: becomes {type(error).__name__}, which has no code to send"
            elif not error.text or "/" in text_of(error) or any(word in text_of(error) for word in FOREIGN):
                yield f"{code.name} {fragment!r}: tells the client {error.text!r}"


def test_every_error_has_a_code_that_may_leave_a_server() -> None:
    assert list(uncoded(errors.ServeError, CODES)) == []


def test_an_error_without_a_code_is_named() -> None:
    class Tree(Exception):
        pass

    class Known(Tree):
        pass

    class Deeper(Known):
        pass

    assert list(uncoded(Tree, {Known: StatusCode.INTERNAL})) == ["Deeper: in only one of the tree and the table"]
    assert list(uncoded(Known, {Deeper: StatusCode.UNKNOWN})) == ["Deeper: UNKNOWN never leaves a server"]


@pytest.mark.parametrize("stack", STACK_CODECS)
def test_every_code_of_a_server_becomes_an_error_of_ours_in_our_words(stack: str) -> None:
    assert len(StatusCode) == 17
    assert list(mistranslated(STACK_CODECS[stack], FRAGMENTS)) == []


@pytest.mark.parametrize(
    ("translate", "line"),
    [
        (lambda code, _: {StatusCode.INTERNAL: errors.BackendBadReply("it failed")}[code], "not in the table"),
        (lambda _, details: errors.BackendUnavailable(details), "tells the client"),
        (lambda *_: errors.BackendUnavailable("see /var/log"), "tells the client"),
        (lambda *_: errors.BackendUnavailable(""), "tells the client"),
        (lambda *_: errors.ServeError("it failed"), "becomes ServeError, which has no code"),
    ],
)
def test_a_codec_that_leaks_or_misses_a_code_is_named(translate: Any, line: str) -> None:
    found = list(mistranslated(SimpleNamespace(translate=translate), [""]))
    assert len(found) >= 16
    assert all(line in text for text in found)
