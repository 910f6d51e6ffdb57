"""An argument parser whose complaint is one line, and the kinds of numbers that commands take."""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

Options = TypeVar("Options")
HOUR_S = 3600


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")

    def read(self, options: Callable[..., Options], argv: Sequence[str] | None = None) -> Options:
        """Return a command line as a dataclass, whose fields are this parser's arguments."""
        return options(**vars(self.parse_args(argv)))

    def refuse_idle(self, name: str, why: str, argv: Sequence[str] | None) -> None:
        """Exit with code 2 if a command line has --NAME, which has no effect. why: "without --other"."""
        # Defaults do not replace what is there, so None stays where nothing was said.
        if getattr(self.parse_args(argv, argparse.Namespace(**{name: None})), name) is not None:
            self.error(f"--{name}: it has no effect {why}; leave it out")


def positive(text: str) -> float:
    """Read a finite number above 0."""
    return _above_zero(text, "a number")


def share(text: str) -> float:
    """Read a number above 0 and below 1."""
    if (value := _above_zero(text, "a number between 0 and 1, and")) >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def seconds(text: str) -> float:
    """Read a finite number of seconds above 0."""
    return _above_zero(text, "a number of seconds")


def up_to_an_hour(text: str) -> float:
    """Read a number of seconds above 0, at most 3600."""
    if (value := seconds(text)) > HOUR_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {HOUR_S}")
    return value


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least`, up to `most` if that is given."""
    bounds = f"from {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        # In digits alone: int() takes "1_0", " 1" and digits of other scripts, too.
        digits = text.isascii() and text.isdecimal()
        if not digits or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return read


def _above_zero(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} above 0")
    return value
