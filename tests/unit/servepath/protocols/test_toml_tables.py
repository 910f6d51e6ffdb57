import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servepath.protocols.toml_tables import TomlTables

TEXT = """\
[a]
x = 1

[a.b]
word = "one"
"""
TABLES = TomlTables(Path("a.toml"), TEXT, LookupError)
RAW = tomllib.loads(TEXT)


def test_what_a_table_may_hold_is_returned() -> None:
    inner = TABLES.table(RAW["a"], ("a",), "b")
    assert (TABLES.needed(("a",), RAW["a"], "x"), TABLES.text(("a", "b"), "word", inner["word"])) == (1, "one")
    assert TABLES.one_of(("a", "b"), inner, "word", ("one", "two")) == "one"
    assert TABLES.table(RAW["a"], ("a",), "c", {}) == {}
    TABLES.check_keys(("a",), RAW["a"], ("x", "b"))


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda: TABLES.needed(("a",), RAW["a"], "y"), "a.toml, line 1: y is missing from [a]"),
        (lambda: TABLES.text(("a",), "x", 1), "a.toml, line 2: x in [a] must be a text, got 1"),
        (
            lambda: TABLES.one_of(("a", "b"), RAW["a"]["b"], "word", ("two", "three")),
            'a.toml, line 5: word in [a.b] must be "two" or "three", got \'one\'',
        ),
        (lambda: TABLES.table(RAW["a"], ("a",), "x"), "a.toml, line 2: [a.x] must be a table, got 1"),
        (lambda: TABLES.table(RAW, (), "c"), "a.toml, line 1: [c] is missing"),
        (
            lambda: TABLES.check_keys(("a", "b"), RAW["a"]["b"], ("words",)),
            "a.toml, line 5: unknown key 'word' in [a.b]; did you mean 'words'?",
        ),
        (lambda: TABLES.check_keys((), RAW, ()), "a.toml, line 1: unknown key 'a' at the top; known here: none"),
    ],
)
def test_a_mistake_names_its_line_and_key(read: Callable[[], Any], says: str) -> None:
    with pytest.raises(LookupError) as caught:
        read()
    assert str(caught.value) == says
