"""Reads the tables of a TOML file. A mistake names its line and key.

A table is given by its name and those of the tables around it: ("models", "m", "stacks") for [models.m.stacks].
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class TomlTables:
    """Checks what tables hold, and knows the lines to point at. error: the class of what its methods raise."""

    def __init__(self, path: Path, text: str, error: type[Exception]) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._kind = error

    def needed(self, table: tuple[str, ...], raw: Mapping[str, Any], key: str) -> Any:
        """Return a value that must be there."""
        if key not in raw:
            raise self.error(table, key, f"{key} is missing from [{'.'.join(table)}]")
        return raw[key]

    def text(self, table: tuple[str, ...], key: str, value: Any) -> str:
        """Return a value that must be a text and not empty."""
        if not isinstance(value, str) or not value:
            raise self.error(table, key, f"{key} in [{'.'.join(table)}] must be a text, got {value!r}")
        return value

    def one_of(self, table: tuple[str, ...], raw: Mapping[str, Any], key: str, words: tuple[str, ...]) -> str:
        """Return a value that must be one of some words."""
        value = raw.get(key)
        if value not in words:
            named = " or ".join(f'"{word}"' for word in words)
            raise self.error(table, key, f"{key} in [{'.'.join(table)}] must be {named}, got {value!r}")
        return str(value)

    def table(self, raw: Mapping[str, Any], table: tuple[str, ...], key: str, default: Any = None) -> Mapping[str, Any]:
        """Return the table that a key of `table` must hold."""
        value = raw.get(key, default)
        if not isinstance(value, dict):
            found = "is missing" if value is None else f"must be a table, got {value!r}"
            raise self.error(table, key, f"[{'.'.join((*table, key))}] {found}")
        return value

    def check_keys(self, table: tuple[str, ...], raw: Mapping[str, Any], known: Iterable[str]) -> None:
        """Refuse a key that is none of the known ones."""
        names = sorted(known)
        for key in raw:
            if key not in names:
                close = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names) or 'none'}"
                where = f"in [{'.'.join(table)}]" if table else "at the top"
                raise self.error(table, key, f"unknown key {key!r} {where}; {hint}")

    def error(self, table: tuple[str, ...], key: str, text: str) -> Exception:
        """Return the error that says what is wrong with a key."""
        return self._kind(f"{self._path}, line {self._line(table, key)}: {text}")

    def _line(self, table: tuple[str, ...], key: str) -> int:
        """Return the number of the line that holds a key, or its table, or 1."""
        header: tuple[str, ...] = ()
        best = 0
        for number, line in enumerate(self._lines, 1):
            found = re.match(r"\s*\[([^\]]+)\]", line)
            if found:
                header = tuple(part.strip().strip("\"'") for part in found[1].split("."))
                if header[: len(table) + 1] == (*table, key):
                    return number
                best = number if header == table else best
            elif header == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
                return number
        # A table without a header is a key of the one around it: `shadow = {...}`, `shadow.stack = ...`.
        return best or (self._line(table[:-1], table[-1]) if table else 1)
