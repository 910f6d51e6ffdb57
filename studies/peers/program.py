"""A whole run: peers, models, then one setup of servers after another, each measured in interleaved rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from report.writers import terminal
from servepath.artifacts.commit import git_commit
from servepath.artifacts.manifest import artifact_folder, read_manifest
from servepath.artifacts.reference import read_reference
from servepath.protocols.probes import WrongAnswer
from studies.peers import models, peers, results, show, sweep
from studies.peers.figures import Measured
from studies.peers.h2load import LoadFailed
from studies.peers.measure import Bench, measure, pilot
from studies.peers.processes import ServerFailed, Servers
from studies.peers.results import Result, Round
from studies.peers.rows import MANY, SMALL, SOME, Load, RequiredMeasurement, Row, Tuning
from studies.peers.setups import DEPLOYMENTS, SETUPS, Cores, Setup, Workspace
from studies.peers.static import Static
from studies.peers.ways import Way

TORCHSERVE, WORKERS = "torchserve", "workers"
SWEEP_FILE = "torchserve-sweep.json"
Say = Callable[[str], None]
# From a setup's name and rows to its rounds, and why some ways are missing.
MeasureRows = Callable[[str, Sequence[Row]], tuple[Sequence[Round], Mapping[str, str]]]
Keep = Callable[[Sequence[Result], Mapping[str, Sequence[Round]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersOptions:
    """The command line of `python -m studies.peers`. only: the rows that are run; list: list all rows instead."""

    rounds: int
    seconds: float
    only: Sequence[Row]
    exports: Path
    out: Path
    list: bool


def run(options: PeersOptions, cores: Sequence[int], console: Console) -> int:
    """Run the rows, show and save them; 1 when one is void or the load generator is missing, else 0."""
    rows = options.only
    say = partial(console.print, style="dim", highlight=False, markup=False, soft_wrap=True)
    began, commit, host = datetime.now(UTC), git_commit(), results.host()
    programs = _programs(rows)
    for peer in programs.values():
        say(peer.why or f"{peer.path}: {peer.version}")
    if not programs["h2load"].path:
        return 1
    shared = Cores.of(cores)
    terminal.show(show.layout(host, layout(shared)), console)
    with TemporaryDirectory(prefix="bench-") as folder:
        place = _place(options.exports, Path(folder), shared, programs)
        facts = {
            "utc": began.isoformat(timespec="seconds"),
            "host": host,
            "layout": layout(shared),
            "small": place.references[SMALL].model,
            "versions": results.versions() | {name: peer.version for name, peer in programs.items()},
            "commit": commit,
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        file = options.out / f"{began:%Y%m%dT%H%M%SZ}.json"
        keep = partial(results.save, file, facts)
        measure_rows = partial(_measure_rows, place=place, options=options, say=say)
        found, measured = by_setup(rows, len(cores), measure_rows, keep)
    keep(found, measured)
    terminal.show(show.table(found, options.rounds), console)
    say(str(file))
    return 1 if any(result.void for result in found) else 0


def _programs(rows: Sequence[Row]) -> dict[str, peers.Peer]:
    """Find or fetch h2load, and of the other peers those that a row asks."""
    ways = {need.way for row in rows for need in row.needs}
    found = {"h2load": peers.debian("h2load")}
    if "nghttpd" in ways:
        found["nghttpd"] = peers.debian("nghttpd")
    if "envoy" in ways:
        found["envoy"] = peers.envoy()
    return found


def layout(cores: Cores) -> list[str]:
    """Return a line per setup that says which cores it uses."""
    alone = "" if cores.front != cores.back else "; there is one core only: nothing here is alone"
    return [
        f"proxy: gateway or Envoy on core {cores.front}, onnx_svc and load on core {cores.back}{alone}",
        f"onnx: onnx_svc or nghttpd on core {cores.front}, load on core {cores.back}{alone}",
        f"torchserve, workers: all on cores {cores.all}",
    ]


def _place(exports: Path, folder: Path, cores: Cores, programs: Mapping[str, peers.Peer]) -> Workspace:
    own = folder / "exports"
    small = models.small_model(DEPLOYMENTS)
    models.prepare(exports, own, small)
    names = {SMALL: small} | {name: name for name in models.SIZES}
    references = {key: read_reference(own, name) for key, name in names.items()}
    return Workspace(own, folder, cores, programs, references, {})


def by_setup(
    rows: Sequence[Row], many: int, measure_rows: MeasureRows, keep: Keep
) -> tuple[list[Result], dict[str, Sequence[Round]]]:
    """Measure the rows setup by setup, on `many` cores, and keep after each what is known so far.

    Return the results in the order of the rows, and all measurements.
    """
    found: dict[str, Result] = {}
    measured: dict[str, Sequence[Round]] = {}
    for name in SETUPS:
        chosen = [row for row in rows if row.setup == name and row.cores <= many]
        if chosen:
            rounds, missing = measure_rows(name, chosen)
            measured[name] = rounds
            found |= {row.name: _result(row, rounds, missing) for row in chosen}
            keep(_in_order(rows, found, many), measured)
    return _in_order(rows, found, many), measured


def _in_order(rows: Sequence[Row], found: Mapping[str, Result], many: int) -> list[Result]:
    whys = {row.name: f"needs {row.cores} cores, here are {many}" for row in rows if row.cores > many}
    return [found.get(row.name, Result(row, why=f"missing: {whys.get(row.name, 'not measured yet')}")) for row in rows]


def _measure_rows(
    name: str, rows: Sequence[Row], *, place: Workspace, options: PeersOptions, say: Say
) -> tuple[list[Round], dict[str, str]]:
    say(f"{name}: {', '.join(row.name for row in rows)}")
    return _rounds(name, rows, _tuned(place, options, say) if name == TORCHSERVE else place, options, say)


def _result(row: Row, rounds: Sequence[Round], missing: Mapping[str, str]) -> Result:
    why = next((missing[need.way] for need in row.needs if need.way in missing), "")
    return Result(row, why=f"missing: {why}") if why else results.result_of(row, rounds)


def _rounds(
    name: str, rows: Sequence[Row], place: Workspace, options: PeersOptions, say: Say
) -> tuple[list[Round], dict[str, str]]:
    """Start a setup and measure what its rows need, round by round; return also why some ways are missing."""
    needs = list(dict.fromkeys(need for row in rows for need in row.needs))
    with Servers(place.folder) as servers:
        setup = Setup(place, servers, {need.way for need in needs})
        try:
            SETUPS[name](setup)
        except ServerFailed as failure:
            return [], {need.way: str(failure) for need in needs}
        there = [need for need in needs if need.way in setup.ways]
        bench = _bench(place, name, options.seconds, servers)
        sizes = {need: _pilot(bench, setup.ways[need.way], need) for need in there}
        rounds = [_round(bench, setup, sizes, number, say) for number in range(options.rounds)]
    return rounds, setup.missing


def _bench(place: Workspace, setup: str, seconds: float, servers: Servers) -> Bench:
    cores = place.cores.all if setup in (TORCHSERVE, WORKERS) else place.cores.back
    return Bench(place.folder, cores, seconds, dict(place.references), servers)


def _pilot(bench: Bench, way: Way | Static, need: RequiredMeasurement) -> int | str:
    """Return the number of requests to send, or why none can be."""
    try:
        return pilot(bench, way, need)
    except (WrongAnswer, LoadFailed) as error:
        return str(error)


def _measured(bench: Bench, way: Way | Static, need: RequiredMeasurement, size: int | str) -> Measured:
    """Measure with what the pilot found."""
    return Measured(void=size) if isinstance(size, str) else measure(bench, way, need, size)


def _round(bench: Bench, setup: Setup, sizes: Mapping[RequiredMeasurement, int | str], number: int, say: Say) -> Round:
    """Measure everything once, every other round backwards, so that a drift favours nobody."""
    order = list(sizes) if number % 2 == 0 else list(sizes)[::-1]
    round_: dict[RequiredMeasurement, Measured] = {}
    for need in order:
        measured = round_[need] = _measured(bench, setup.ways[need.way], need, sizes[need])
        say(f"  {number + 1}  {need.way:18} {need.model:10} {need.load!s:5} {measured.void or _line(measured)}")
    return round_


def _line(measured: Measured) -> str:
    p50 = "" if measured.p50_us is None else f", p50 {measured.p50_us:.0f} us"
    cpu = f"CPU {measured.cpu_us:.1f} us, others {measured.others:.2f} cores"
    return f"{measured.rate:10,.0f} req/s, mean {measured.mean_us:.0f} us{p50}, {cpu}"


def _tuned(place: Workspace, options: PeersOptions, say: Say) -> Workspace:
    """Find TorchServe's best tuning for each load of its rows, and put archives tuned so into the place."""
    numbers = count()

    def plant(tuning: Tuning) -> Path:
        own = place.folder / f"tuned-{next(numbers)}"
        models.tuned(options.exports, own, place.references[SMALL].model, tuning)
        return own

    def attempt(tuning: Tuning) -> dict[Load, float]:
        rates = _attempt(place, plant(tuning), options.seconds)
        say(f"  sweep {tuning}: {', '.join(f'{load} {rate:,.0f} req/s' for load, rate in rates.items())}")
        return rates

    best = sweep.best(options.out / SWEEP_FILE, _sweep_key(place, options), (SOME, MANY), attempt)
    say(f"  TorchServe at its best: {', '.join(f'{load}: {tuning}' for load, tuning in best.items())}")
    return replace(place, tuned={f"torchserve {load}": plant(tuning) for load, tuning in best.items()})


def _sweep_key(place: Workspace, options: PeersOptions) -> dict[str, Any]:
    small = place.references[SMALL]
    made = read_manifest(artifact_folder(options.exports, small.model, models.MAR, small.version))
    facts = {"host": results.host(), "versions": results.versions(), "seconds": options.seconds}
    return facts | {"sha256": made.sha256}


def _attempt(place: Workspace, exports: Path, seconds: float) -> dict[Load, float]:
    with Servers(place.folder) as servers:
        setup = Setup(place, servers, ())
        try:
            way = setup.torch_svc(place.cores.all, exports)
        except ServerFailed:
            return {}
        return rates(_bench(place, TORCHSERVE, seconds, servers), way)


def rates(bench: Bench, way: Way | Static) -> dict[Load, float]:
    """Return TorchServe's requests/s under each load of the sweep; a load whose measurement is void is missing."""
    found: dict[Load, float] = {}
    for load in (SOME, MANY):
        need = RequiredMeasurement(TORCHSERVE, SMALL, load)
        measured = _measured(bench, way, need, _pilot(bench, way, need))
        found |= {} if measured.void else {load: measured.rate}
    return found
