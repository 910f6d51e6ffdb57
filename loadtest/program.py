"""A whole run: prepare everything, see that every target answers, then one block after another."""

import argparse
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grpc.experimental import gevent as grpc_gevent

from loadtest import host, run
from loadtest.calls import Clock, Target
from loadtest.config import ConfigError, read_settings
from loadtest.payloads import Payload, load_reference, prepare
from loadtest.plan import Block
from loadtest.session import Interruption, Load, Session, check_reachable
from loadtest.targets import target_of
from store.commit import git_commit


def run_all(blocks: Sequence[Block], options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Run the blocks in order and give 0, or the number of the signal that ended them early.

    Raises ConfigError, ArtefactError or OSError before any load, except for a disk that fills up.
    """
    grpc_gevent.init_gevent()
    interruption, clock = Interruption(), Clock()
    targets = _prepare(blocks, options)
    check_reachable(targets, clock)
    facts = {"arguments": _arguments(options), "host": host.describe(), "git_commit": git_commit()}
    this_run = run.start(options.out, blocks, {"seed": options.seed} | facts)
    say(f"{this_run.folder}: {len(targets)} blocks, closed loop, {options.rate:g} requests/s, seed {options.seed}")
    load = Load(options.rate, options.users, options.warmup, options.duration, options.min_requests)
    session = Session(this_run, load, clock, interruption)
    gc.collect()
    gc.freeze()  # what was prepared is not looked at again in every collection while measuring
    for number, (target, payloads) in enumerate(targets, start=1):
        this_run.blocks.append(session.block(target, payloads))
        say(_progress(number, len(targets), this_run.blocks[-1]))
        if interruption.signal is not None:
            break
        this_run.save(complete=number == len(targets))
    if interruption.signal is None:
        return 0
    this_run.save(complete=False)
    say(f"interrupted; {this_run.folder} holds the rows so far and is marked incomplete")
    return interruption.signal


def _prepare(blocks: Sequence[Block], options: argparse.Namespace) -> list[tuple[Target, Sequence[Payload]]]:
    settings = read_settings(options.env_file)
    references = {model: load_reference(options.exports, model) for model in {block.path.model for block in blocks}}
    prepared: list[tuple[Target, Sequence[Payload]]] = []
    for block in blocks:
        target, reference = target_of(block, settings, options.exports), references[block.path.model]
        if options.rows > reference.rows:
            raise ConfigError(f"--rows {options.rows}: the reference of {reference.model} has {reference.rows} rows")
        payloads = prepare(reference, target.model, target.encode, rows=options.rows, seed=options.seed)
        prepared.append((target, payloads))
    return prepared


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


def _progress(number: int, total: int, block: dict[str, Any]) -> str:
    name = f"{block['model']}@{block['stack']} {block['via']}"
    return (
        f"[{number}/{total}] {name:32} {block['requests']:7,} requests in {block['seconds']:.1f} s, "
        f"{block['errors']} errors, {block['wrong_answers']} wrong, generator at {block['generator_cpu']:.0%} of a core"
    )
