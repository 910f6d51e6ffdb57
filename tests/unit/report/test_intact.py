"""Rows that are not those that were recorded are refused in one line, by every command that reads a run."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from report.__main__ import main

MEASUREMENT = "simple_nn@onnx.direct"
FILE = f"r03-{MEASUREMENT}.parquet"
Damage = Callable[[Any, Path], None]


def rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Damage:
    return lambda stored, path: stored.damage(path, change)


def value(name: str, bad: Any) -> Damage:
    return rows(lambda found: [*found[:-1], found[-1] | {name: bad}])


def without(name: str) -> Damage:
    return lambda _, path: parquet.write_table(parquet.read_table(path).drop_columns([name]), path)


def as_text(name: str) -> Damage:
    def change(_: Any, path: Path) -> None:
        table = parquet.read_table(path)
        at = table.schema.get_field_index(name)
        parquet.write_table(table.set_column(at, name, pa.array(["soon"] * table.num_rows)), path)

    return change


def with_queue(queue_us: int) -> Damage:
    """Add the column, which the stored run is too old for."""

    def change(_: Any, path: Path) -> None:
        table = parquet.read_table(path)
        parquet.write_table(table.append_column("queue_us", pa.array([queue_us] * table.num_rows)), path)

    return change


def copied_from(other: str) -> Damage:
    return lambda stored, path: shutil.copy(stored.folder / "rows" / other, path) and None


DAMAGES = {
    "halved": (rows(lambda found: found[: len(found) // 2]), "holds 52 requests and run.json counted 110"),
    "doubled": (rows(lambda found: found * 2), "holds 220 requests and run.json counted 110"),
    "emptied": (rows(lambda _: []), "holds 0 requests and run.json counted 110"),
    "one row gone": (rows(lambda found: found[:-1]), "holds 109 requests and run.json counted 110"),
    "no warm-up": (rows(lambda found: found[5:]), "holds 0 warmup requests and run.json counted 5"),
    "an error": (value("ok", bad=False), "holds 1 errors and run.json counted 0"),
    "a wrong answer": (value("wrong", bad=True), "holds 1 wrong answers and run.json counted 0"),
    "another round's": (copied_from(f"r04-{MEASUREMENT}.parquet"), "holds rows whose round is 4 and not 3"),
    "another path's": (
        copied_from("r03-keras_dense@tfserving.direct.parquet"),
        "holds rows whose model is 'keras_dense' and not 'simple_nn'",
    ),
    "another way's": (
        copied_from("r03-simple_nn@onnx.gateway.parquet"),
        "holds rows whose via is 'gateway' and not 'direct'",
    ),
    "another run's": (value("run", "last week"), "holds rows whose run is 'last week' and not 'run'"),
    "another side's": (value("side", "new"), "holds rows whose side is 'new' and not ''"),
    "nobody's": (value("stack", None), "holds rows whose stack is None and not 'onnx'"),
    "of no phase": (value("phase", "later"), "holds rows of a phase 'later'"),
    "times as text": (as_text("service_us"), "is not a table of requests (Failed to parse string: 'soon' as a"),
    **{
        f"{name} null": (value(name, None), f"holds 1 rows without {name}")
        for name in ("phase", "sent_ns", "service_us", "scheduled_ns", "response_us", "ok", "code", "wrong")
    },
    **{
        f"{name} negative": (value(name, -1), f"holds 1 impossible values of {name}, such as -1")
        for name in ("sent_ns", "service_us", "scheduled_ns", "response_us", "gateway_us", "backend_us")
    },
    "queue_us negative": (with_queue(-1), "holds 115 impossible values of queue_us, such as -1"),
    **{
        f"{name} {bad}": (value(name, bad), f"holds 1 impossible values of {name}, such as {bad}")
        for name in ("service_us", "response_us")
        for bad in (math.nan, math.inf)
    },
    **{
        f"no {name}": (without(name), f"has no column {name!r}")
        for name in ("run", "round", "model", "phase", "sent_ns", "service_us", "ok", "wrong", "version")
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_refused_in_one_line(stored: Any, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    change, said = DAMAGES[damage]
    path = stored.folder / "rows" / FILE
    change(stored, path)
    assert main([str(stored.folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"servepath report: {path} {said}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["compare", "{whole}", "{spoiled}"], ["gate", "{spoiled}"]])
@pytest.mark.parametrize("damage", ["halved", "service_us nan", "another round's"])
def test_compare_and_gate_refuse_them_too(
    stored: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, words: list[str]
) -> None:
    whole = shutil.copytree(stored.folder, tmp_path / "whole")
    change, said = DAMAGES[damage]
    change(stored, stored.folder / "rows" / FILE)
    assert main([word.format(whole=whole, spoiled=stored.folder) for word in words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_closed_loops_rows_have_no_schedule(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stored.change_facts(load_model="closed loop")
    assert main([str(stored.folder)]) == 1
    assert "holds rows with scheduled_ns, and run.json tells of a closed loop" in capsys.readouterr().err


def test_rows_that_run_json_does_not_tell_of_are_refused(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored.folder / "rows" / f"r12-{MEASUREMENT}.parquet"
    shutil.copy(stored.folder / "rows" / FILE, path)
    assert main([str(stored.folder)]) == 1
    said = f"servepath report: {path} holds rows of which run.json does not tell; remove the file\n"
    assert capsys.readouterr().err == said


@pytest.mark.slow
def test_a_killed_runs_last_rows_of_which_run_json_does_not_tell_do_not_count(
    stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(stored.folder / "rows" / FILE, stored.folder / "rows" / f"r12-{MEASUREMENT}.parquet")
    stored.change_facts(complete=False)
    assert main([str(stored.folder)]) == 1
    assert "12 of 12 rounds ended" in capsys.readouterr().out
