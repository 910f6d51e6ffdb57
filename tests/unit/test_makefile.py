import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.limits import LONG_S

ROOT = Path(__file__).parents[2]
# The names that other people's scripts rely on.
CONTRACT = (
    "demo",
    "test",
    "setup",
    "clean",
    "train",
    "export",
    "report",
    "recommend",
    "up",
    "status",
    "logs",
    "down",
    "predict",
    "ask",
    "loadtest",
    "crosscheck",
    "bench",
    "scorecard",
    "validate-method",
    "gate",
    "capacity",
    "tune",
    "test-report",
    "primer",
    "docs",
)


def make(*command: str) -> subprocess.CompletedProcess[str]:
    # A make above this one hands its flags down, and they change what is printed.
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        ["make", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG_S, check=False
    )


def test_make_alone_lists_every_target_of_the_contract_with_what_it_does() -> None:
    lines = dict(line.split(maxsplit=2)[1:] for line in make().stdout.splitlines())

    assert [name for name in CONTRACT if not lines.get(name)] == []


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["predict", "MODEL=simple_nn@onnx", "X=3 4"], "-m servepath predict 'simple_nn@onnx' '3 4'"),
        (["ask", "MODEL=simple_nn", "X=3 4"], "-m servepath ask 'simple_nn' --all '3 4'"),
        (["ask", "MODEL=mine", "TEXT=a"], "-m servepath ask 'mine' --all --text \"$TEXT\""),
        (["predict"], "-m servepath predict 'simple_nn' '1 2'"),  # the first of deployments.toml
        (
            ["loadtest", "RATE=9", "DURATION=2", "PATHS=a@b", "VIA=direct"],
            "-m servepath loadtest --rate 9 --duration 2 --paths 'a@b' --via direct",
        ),
        (
            ["loadtest", "ROUNDS=3", "SEED=7", "ALLOW=threads", "CLOSED_LOOP=1", "PROCESSES=2"],
            "-m servepath loadtest --rounds 3 --seed 7 --allow threads --closed-loop --processes 2",
        ),
        (["loadtest", "DIFFERENCE=0.05", "MINUTES=15"], "-m servepath loadtest --difference 0.05 --minutes 15"),
        (["validate-method", "DIFFERENCE=0.1"], "-m servepath validate-method --difference 0.1"),
        (["loadtest", "PAYLOADS=a.npz"], "-m servepath loadtest --payloads 'a.npz'"),
        (
            ["loadtest", "TARGETS=gateway=h:1,onnx=h:2", "ENVIRONMENT=compose here"],
            "-m servepath loadtest --targets 'gateway=h:1,onnx=h:2' --environment 'compose here'",
        ),
        (["bench", "ROUNDS=9", "ROWS=onnx-*"], "-m servepath bench --rounds 9 --only 'onnx-*'"),
        (
            ["scorecard", "RATE=9", "ROUNDS=12", "PRICE_PER_HOUR=0.1", "CURRENCY=EUR", "PATHS=a@b"],
            "-m servepath cost --rounds 12 --rate 9 --paths 'a@b' --price-per-hour 0.1 --currency 'EUR'",
        ),
        (
            ["recommend", "RATE=9", "SLO_P99_MS=5", "PRICE_PER_HOUR=0.1", "CURRENCY=EUR", "VIA=direct"],
            "-m servepath recommend --rate 9 --slo-p99-ms 5 --price-per-hour 0.1 --currency 'EUR' --via direct",
        ),
        (["recommend"], "-m servepath recommend"),
        (
            ["validate-method", "RUNS=9", "ROUNDS=11", "PATHS=keras_dense@onnx"],
            "-m servepath validate-method --runs 9 --rounds 11 --path 'keras_dense@onnx'",
        ),
        (
            ["gate", "REF=v1", "THRESHOLD=3", "ROUNDS=20", "PATHS=a@b", "VIA=direct", "SEED=7"],
            "-m servepath gate --ref 'v1' --threshold 3 --rounds 20 --paths 'a@b' --via direct --seed 7",
        ),
        (
            ["capacity", "SLO_P99_MS=5", "WANTED_RPS=900", "PATHS=a@b", "VIA=direct", "PROCESSES=2"],
            "-m servepath capacity --slo-p99-ms 5 --wanted-rps 900 --processes 2 --paths 'a@b' --via direct",
        ),
        (
            ["tune", "PATHS=a@b", "BUDGET=90s", "GOAL=cpu", "RATE=500", "SLO_P99_MS=9", "SEED=7"],
            "-m servepath tune 'a@b' --slo-p99-ms 9 --budget 90s --goal cpu --rate 500 --seed 7",
        ),
        (["tune"], "-m servepath tune all"),
        (["up", "TUNED=1"], "-m servepath up --tuned"),
        (["primer"], "-m servepath primer"),
        (["primer", "LESSON=3"], "-m servepath primer '3'"),
        (["demo", "RATE=9"], "-m servepath demo --rate 9"),
    ],
)
def test_the_contracts_variables_reach_the_commands(words: list[str], command: str) -> None:
    assert command in [
        " ".join(line.split()).removeprefix(".venv/bin/python ") for line in make("-n", *words).stdout.splitlines()
    ]


def test_loadtest_starts_what_is_not_running_first() -> None:
    commands = make("-n", "loadtest").stdout.splitlines()

    assert [line.split("-m ")[1].strip() for line in commands[-3:]] == [
        "servepath up",
        "servepath loadtest",
        "servepath report",
    ]


def test_loadtest_of_servers_elsewhere_starts_none_here() -> None:
    commands = make("-n", "loadtest", "TARGETS=gateway=h:1").stdout.splitlines()

    assert [line.split("-m ")[1].split()[1] for line in commands[-2:]] == ["loadtest", "report"]
    assert not any("servepath up" in line for line in commands)


def test_no_recipe_uses_a_variable_that_is_neither_defined_nor_asked_for_by_if() -> None:
    text = (ROOT / "Makefile").read_text()
    defined = set(re.findall(r"^([A-Z0-9_]+) *[:+]?=", text, re.MULTILINE))
    offered = set(re.findall(r"\$\(if \$\(([A-Z0-9_]+)\)", text))

    assert set(re.findall(r"\$\(([A-Z0-9_]+)[):]", text)) - defined - offered == {"IMAGES", "MAKEFILE_LIST"}


def test_no_fitting_python_is_said_with_the_fix() -> None:
    done = make("-n", "NEWEST=", ".venv/.installed", "-W", "constraints.txt")

    assert 'test -n "" || { echo "make: there is no Python 3.11, 3.12 or 3.13 here: install' in done.stdout


@pytest.mark.parametrize("name", ["mlserver", "kserve", "triton"])
def test_each_external_server_is_installed_from_its_own_pins(name: str) -> None:
    pins = f"tests/interop/{name}.txt"
    commands = make("-n", "OLDER=python3.11", "-W", pins, f".venv-{name}/.installed").stdout
    assert f"python3.11 -m venv .venv-{name}\n" in commands
    assert f".venv-{name}/bin/pip install -q --disable-pip-version-check -r {pins}\n" in commands
    lines = (ROOT / pins).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", line)] == []


@pytest.mark.parametrize("target", ["down", "logs", "status"])
def test_what_shows_or_stops_services_leaves_their_venv_alone(target: str) -> None:
    commands = make("-n", "-W", "constraints.txt", target).stdout.splitlines()

    assert commands == [f".venv/bin/python -m servepath {target}"]
