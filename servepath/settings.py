"""Where every process gets its settings: the command line over the environment over .env.

An option and its variable are declared together and read by the same function, a `type` of argparse. An empty variable
is one that is not set. Why no larger library does this: docs/adr/0026-settings.md.
"""

import argparse
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dotenv import dotenv_values

from servepath.cli.arguments import Parser, whole
from servepath.protocols.addresses import EXPECTED, MAX_PORT, dns_name, is_address, socket_path, split_addresses

ENV_FILE = Path(".env")
PLACE = "set it in .env or in the environment"

T = TypeVar("T")


class SettingsError(Exception):
    """A setting, or a file that one names, is missing or cannot be used; the text names it and the fix."""


def variables(env_file: Path = ENV_FILE, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of `environment` over those of a file, which may be missing."""
    return {name: value for name, value in {**dotenv_values(env_file), **environment}.items() if value}


def read_variable(found: Mapping[str, str], name: str, kind: Callable[[str], T]) -> T:
    """Return a variable as `kind` reads it. Raises SettingsError naming it, its value and where it is set."""
    if name not in found:
        raise SettingsError(f"{name} is not set; {PLACE} (the defaults are in the repository's .env)")
    try:
        return kind(found[name])
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{name}: {error}; {PLACE}") from None


port = whole(0, MAX_PORT)
fixed_port = whole(1, MAX_PORT)


def address(text: str) -> str:
    """Read HOST:PORT or unix:PATH."""
    if not is_address(text):
        several = "; several are for a gateway that is started by itself (docs/operate.md)" if "," in text else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not {EXPECTED}{several}")
    return text


def address_list(text: str) -> str:
    """Read HOST:PORT, unix:PATH or dns:///HOST:PORT, or several with commas between them: replicas."""
    found = split_addresses(text)
    for one in found:
        address(dns_name(one) or one)
        if socket_path(dns_name(one)):
            raise argparse.ArgumentTypeError(f"{one!r} is not dns:///HOST:PORT")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an address twice")
    return text


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return a reader of one of these words."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return read


class _Setting(NamedTuple):
    variable: str
    kind: Callable[[str], Any]
    default: Any


_NEEDED = object()


class SettingsParser(Parser):
    """A command line whose options may be variables, too. `given`: the names of those that were on it, once read."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)
        self._declared: dict[str, _Setting] = {}
        self.given: frozenset[str] = frozenset()

    def setting(
        self, name: str, about: str, *, variable: str = "", kind: Callable[[str], Any] = str, default: Any = _NEEDED
    ) -> None:
        """Declare --NAME, else `variable`, else `default`; without a default one of the first two is needed."""
        otherwise = [variable] if variable else []
        otherwise += [str(default)] if default is not _NEEDED and default is not None else []
        shown = f" (default: {', else '.join(otherwise)})" if otherwise else ""
        self.add_argument(f"--{name.replace('_', '-')}", type=kind, help=about + shown)
        self.variable(name, variable, kind=kind, default=default)

    def variable(self, name: str, variable: str, *, kind: Callable[[str], Any] = str, default: Any = _NEEDED) -> None:
        """Declare a setting that has a variable and no option."""
        self._declared[name] = _Setting(variable, kind, default)

    def read_settings(self, argv: Sequence[str] | None = None) -> dict[str, Any]:
        """Return every setting by name. Raises SettingsError for a variable; exits with code 2 for an option."""
        options = vars(self.parse_args(argv))
        self.given = frozenset(name for name, value in options.items() if value is not None)
        found = variables()
        for name, (variable, kind, default) in self._declared.items():
            if name not in self.given:
                use_default = variable not in found and default is not _NEEDED
                options[name] = default if use_default else read_variable(found, variable, kind)
        return options
