"""The capacity of each path in turn: warm up, search, overload, and what the generator itself could do at that rate."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from loadtest import plan, server
from loadtest.calls import Clock
from loadtest.capacity import certify, overload, step
from loadtest.capacity.addition import Addition
from loadtest.capacity.search import FIRST_RPS, MOST_INVALID, Found, Limit, Outcome, Result, Search, conclude
from loadtest.config import GATEWAY, Settings, read_settings
from loadtest.order import Order
from loadtest.plan import NULL, OPEN_POISSON, Block, Turn
from loadtest.program import SETTLE_S, instrument, workers_of
from loadtest.recorder import write_file
from loadtest.run import RunError
from loadtest.session import check_reachable, warm_up
from loadtest.workers import InterruptedRun, Loaded, Workers
from store.commit import git_commit

# Of a path's time: each of the two overloads, and what follows it. The rest of it warms up and searches.
OVERLOAD_SHARE, AFTER_SHARE = overload.OVERLOAD_S / 90, overload.AFTER_S / 90
SEARCH_SHARE = 1 - len(overload.FACTORS) * (OVERLOAD_SHARE + AFTER_SHARE) - 0.04
# A try at which this share of the requests is over the objective cannot end well: 10 times what is allowed.
HOPELESS = 0.1


def run_all(
    paths: Sequence[plan.ServingPath], asked: argparse.Namespace, load: argparse.Namespace, words: Sequence[str]
) -> int:
    """Find all capacities; give 0, or the number of the signal that ended it early.

    asked: what `python -m loadtest.capacity` was told; load, words: the same generator as the load test's, and its
    command line for workers. Raises ConfigError, ArtefactError, RunError or OSError.
    """
    console = Console(highlight=False)
    with instrument(paths, load) as ours:
        check_reachable(ours.prepared.loaded, ours.clock)
        settings = read_settings(load.env_file)
        blocks = [block for block in ours.blocks if block != NULL]
        addition = Addition(asked.run, _facts(asked, load, ours.about))
        addition.begin(blocks)
        try:
            with workers_of(ours.generator, load, words, ours.interruption) as workers:
                for number, block in enumerate(blocks, start=1):
                    stand = Stand(workers, ours.clock, asked, load, lambda text: console.print(text, soft_wrap=True))
                    _find(stand, block, _cores(block, settings), addition)
                    addition.save(complete=number == len(blocks))
        except (InterruptedRun, RunError) as error:
            addition.save(complete=False)
            if isinstance(error, RunError):
                raise
            console.print(f"interrupted; {addition.folder / 'capacity.json'} has what was found, marked incomplete")
            return ours.interruption.signal or 0
    return 0


def _find(stand: "Stand", block: Block, cores: float | None, addition: Addition) -> None:
    """Find a block's capacity and add it; what was found of one that is interrupted, too."""
    on = OnBlock(stand, block)
    search = Search(on.attempt, on.left_s)
    more: dict[str, Any] = {}
    try:
        on.warm_up()
        search.run()
        found = conclude(search.tries)
        stand.say(f"{block.path} {block.via}: {_sentence(found, stand.asked.slo_p99_ms)}")
        if found.rate is not None and found.limit is Limit.SERVER:
            more["overload"] = [on.overload(found.rate, factor) for factor in overload.FACTORS]
        more["null"] = on.null(found)
    finally:
        found = conclude(search.tries)
        addition.paths.append(
            {
                **block.path._asdict(),
                "via": block.via,
                "rate_rps": found.rate,
                "low_rps": _whole(found.low),
                "high_rps": _whole(found.high),
                "limit": found.limit,
                "cores": cores,
                "steps": on.steps,
                **more,
            }
        )


@dataclass(frozen=True, slots=True)
class Stand:
    """What all blocks are searched with. say: prints a line."""

    workers: Workers
    clock: Clock
    asked: argparse.Namespace
    load: argparse.Namespace
    say: Callable[[str], None]


class OnBlock:
    """One path and way: every step of it, its rows kept. steps: as capacity.json has them."""

    def __init__(self, stand: Stand, block: Block) -> None:
        self._stand = stand
        self._block = block
        self._slo_us = stand.asked.slo_p99_ms * 1e3
        self._began_s = time.monotonic()
        self._number = 0
        self.steps: list[dict[str, Any]] = []

    def left_s(self) -> float:
        """Give how much of the search's time is left."""
        return float(self._stand.asked.seconds) * SEARCH_SHARE - (time.monotonic() - self._began_s)

    def warm_up(self) -> None:
        """Load until the path is stable; its rows are not kept. Raises InterruptedRun."""
        warm_up(self._order(FIRST_RPS, 1), min(self._stand.load.warmup, self.left_s() / 4), self._send)

    def attempt(self, rate: float) -> Result:
        """Try a rate. Raises InterruptedRun."""
        planned = certify.requests_of(rate)
        order = self._order(rate, planned, over_us=self._slo_us, most_over=math.ceil(HOPELESS * planned))
        loaded = self._load(order)
        tried = step.judge(loaded.table, loaded.facts, rate=rate, slo_us=self._slo_us, planned=planned)
        self.steps.append(tried.to_dict())
        self._say(tried)
        return tried.result

    def overload(self, capacity: float, factor: float) -> dict[str, Any]:
        """Load with more than the capacity for a moment, and then with half of it. Raises InterruptedRun."""
        rate, after = capacity * factor, capacity * overload.AFTER_SHARE
        seconds = self._stand.asked.seconds
        count = math.ceil(rate * seconds * OVERLOAD_SHARE)
        order = self._order(
            rate, count, settle=0, then_rate=after, then_requests=math.ceil(after * seconds * AFTER_SHARE)
        )
        loaded = self._load(order)
        found = overload.judge(loaded.table, loaded.facts, factor=factor, overload=count, slo_us=self._slo_us)
        back = "did not recover" if found["recovery_s"] is None else f"recovered in {found['recovery_s']:.1f} s"
        self._tell(
            f"{factor:g} times the capacity: {found['goodput_rps']:,.0f} right in time a second, "
            f"{found['refused_share']:.0%} refused, {back}"
        )
        return found

    def null(self, found: Found) -> dict[str, Any] | None:
        """Load the null endpoint at the rate that was found, or that the generator failed at. Raises InterruptedRun."""
        invalid = [each["rate_rps"] for each in self.steps if each["outcome"] is Outcome.INVALID]
        stuck = [rate for rate in invalid if invalid.count(rate) >= MOST_INVALID]
        rate = min(stuck, default=None) if found.limit is Limit.GENERATOR else found.rate
        if rate is None:
            return None
        planned = certify.requests_of(rate)
        loaded = self._send(self._order(rate, planned, block=NULL))
        tried = step.judge(loaded.table, loaded.facts, rate=rate, slo_us=self._slo_us, planned=planned)
        self._tell(f"the null endpoint at {_figures(tried)}")
        keys = ("rate_rps", "p99_ms", "late_share", "generator_cpu")
        return {key: getattr(tried, key) for key in keys} | {"valid": not step.unfit(tried)}

    def _order(self, rate: float, requests: int, *, block: Block | None = None, **more: Any) -> Order:
        turn = Turn(self._number, block or self._block)
        settle = more.pop("settle", math.ceil(rate * SETTLE_S))
        seed = f"{self._stand.asked.seed}/{self._number}"
        fixed: dict[str, Any] = {"connections": self._stand.load.connections, "seed": seed, "workers": 1, "begin_ns": 0}
        return Order(turn, OPEN_POISSON, rate, settle, requests, **fixed, **more)

    def _load(self, order: Order) -> Loaded:
        loaded = self._send(order)
        folder: Path = self._stand.asked.run
        run = pa.array([folder.name] * loaded.table.num_rows, pa.string())
        name = f"{self._block}-{self._number:03d}.parquet"
        write_file(loaded.table.set_column(0, "run", run), folder / "capacity" / name)
        self._number += 1
        return loaded

    def _send(self, order: Order) -> Loaded:
        return self._stand.workers.load(order, self._stand.clock.now_ns())

    def _say(self, tried: step.Step) -> None:
        said = ", ".join(text for text in (tried.outcome.value, tried.stopped, step.unfit(tried)) if text)
        self._tell(f"{_figures(tried)}: {said}")

    def _tell(self, text: str) -> None:
        self._stand.say(f"{self._block.path} {self._block.via} {text}")


def _figures(tried: step.Step) -> str:
    p99 = "-" if tried.p99_ms is None else f"{tried.p99_ms:.2f} ms"
    return f"{tried.rate_rps:,.0f} req/s: p99 {p99}, {tried.over:,} of {tried.requests:,} over"


def _sentence(found: Found, slo_p99_ms: float) -> str:
    if found.limit is Limit.WRONG:
        return "wrong answers, so no capacity"
    if found.rate is None:
        return f"no rate was certified at p99 below {slo_p99_ms:g} ms"
    if found.limit is Limit.GENERATOR:
        return f"at least {found.rate:,.0f} req/s (the generator's limit) at p99 below {slo_p99_ms:g} ms"
    low, high = ("?" if bound is None else f"{bound:,.0f}" for bound in (found.low, found.high))
    return f"{found.rate:,.0f} req/s at p99 below {slo_p99_ms:g} ms ({low}..{high})"


def _cores(block: Block, settings: Settings) -> float | None:
    servers = (block.path.stack,) if block.via == "direct" else (GATEWAY, block.path.stack)
    return server.cores([settings.addresses[name] for name in servers])


def _facts(asked: argparse.Namespace, load: argparse.Namespace, about: str) -> dict[str, Any]:
    return {
        "slo_p99_ms": asked.slo_p99_ms,
        "wanted_rps": asked.wanted_rps,
        "seconds": asked.seconds,
        "seed": asked.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "generator": f"{load.workers or load.processes} workers, {about}",
    }


def _whole(value: float | None) -> float | None:
    return None if value is None else float(round(value))
