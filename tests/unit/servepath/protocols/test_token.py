"""TorchServe's key, read from a file that changes."""

from pathlib import Path

import pytest

from servepath.artifacts.atomic import write_file
from servepath.protocols.token import TokenFile


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token"


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def test_the_key_becomes_an_authorization_entry(path: Path) -> None:
    path.write_text("abc\n")
    assert TokenFile(path).metadata() == bearer("abc")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff\xfe"])
def test_without_a_usable_key_there_is_no_metadata(path: Path, content: bytes) -> None:
    assert TokenFile(path).metadata() == ()
    path.write_bytes(content)
    assert TokenFile(path).metadata() == ()


def test_a_renewed_key_is_noticed_half_a_second_later_and_not_before(path: Path) -> None:
    clock = Clock()
    write_file(path, "old")
    token = TokenFile(path, clock)
    assert token.metadata() == bearer("old")
    write_file(path, "new")
    clock.now += 0.4
    assert token.metadata() == bearer("old")
    clock.now += 0.2
    assert token.metadata() == bearer("new")


def test_reload_notices_at_once(path: Path) -> None:
    clock = Clock()
    write_file(path, "old")
    token = TokenFile(path, clock)
    token.metadata()
    write_file(path, "new")
    assert token.reload() == bearer("new")
    assert token.metadata() == bearer("new")


def test_a_file_that_vanishes_takes_its_key_along_and_one_that_appears_brings_it(path: Path) -> None:
    clock = Clock()
    write_file(path, "one")
    token = TokenFile(path, clock)
    token.metadata()
    path.unlink()
    assert token.reload() == ()
    write_file(path, "two")
    clock.now += 1
    assert token.metadata() == bearer("two")
