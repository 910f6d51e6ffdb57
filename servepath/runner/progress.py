"""Progress, a line per service: a live table on a terminal, plain lines elsewhere."""

import time
from dataclasses import dataclass, field
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class ProgressDisplay(Protocol):
    """Where the progress of `up` is shown."""

    def begin(self, service: str) -> None:
        """Show that a service is starting; its seconds count from here."""

    def tell(self, service: str, state: str) -> None:
        """Show a service's new state."""


@dataclass(slots=True)
class PlainProgress:
    """One line for each news."""

    console: Console
    _begun: dict[str, float] = field(default_factory=dict)

    def begin(self, service: str) -> None:
        """Print that a service starts."""
        self._begun[service] = time.monotonic()
        self._print(service, "starting")

    def tell(self, service: str, state: str) -> None:
        """Print a service's state and its seconds since it began."""
        begun = self._begun.get(service)
        self._print(service, state if begun is None else f"{state} after {time.monotonic() - begun:.1f} s")

    def _print(self, service: str, text: str) -> None:
        self.console.print(f"{service:10} {text}", highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the lines as they are."""


class LiveProgress:
    """One line for each service, drawn again as its state and seconds change."""

    def __init__(self, console: Console) -> None:
        self._begun: dict[str, float] = {}
        self._told: dict[str, tuple[str, float | None]] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=5)

    def begin(self, service: str) -> None:
        """Show a service as starting."""
        self._begun[service] = time.monotonic()
        self._told[service] = ("starting", None)

    def tell(self, service: str, state: str) -> None:
        """Show a service's state; a ready one's clock stops."""
        begun = self._begun.get(service)
        self._told[service] = (state, time.monotonic() - begun if begun and state.startswith("ready") else None)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for service, (state, took_s) in list(self._told.items()):
            begun = self._begun.get(service)
            seconds = took_s if took_s is not None else time.monotonic() - begun if begun else None
            table.add_row(service, "" if seconds is None else f"{seconds:5.1f} s", state)
        return table

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def progress_display() -> PlainProgress | LiveProgress:
    """Return the progress display that suits standard output."""
    console = Console()
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)
