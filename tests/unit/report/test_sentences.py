import shlex
from typing import Any

from loadtest.__main__ import argument_parser
from report import sentences
from report.build import build


def test_the_command_to_do_it_again_is_one_that_the_load_test_understands_as_before(stored: Any) -> None:
    words = "--paths simple_nn@onnx --via direct --rounds 3 --rate 250.5 --arrivals constant --closed-loop --seed 9"
    args = vars(argument_parser().parse_args([*words.split(), "--allow", "threads", "--allow", "plan"]))
    facts = {name: str(value) if hasattr(value, "parts") else value for name, value in args.items()}
    stored.change_facts(arguments=facts, seed=9)
    command = shlex.split(sentences.command(build(stored.folder)))
    assert command[:3] == ["python", "-m", "loadtest"]
    assert vars(argument_parser().parse_args(command[3:])) == args


def test_a_drawn_seed_is_repeated(stored: Any) -> None:
    assert sentences.command(build(stored.folder)).endswith("--seed 7")


def test_a_path_that_was_not_stable_after_its_warm_up_is_said(stored: Any) -> None:
    warmup = stored.facts()["warmup"]
    warmup[0]["stable"] = False
    stored.change_facts(warmup=warmup)
    found = list(sentences.warm_up(build(stored.folder)))
    assert len(found) == 4
    first = "warm-up: keras_dense@tfserving direct: 1.5 s, 750 requests"
    assert [line for line in found if "not stable" in line] == [f"{first}, and its median was not stable yet"]


def test_several_undefeated_paths_are_all_named(stored: Any) -> None:
    for measurement in ("simple_nn@onnx.direct", "keras_dense@tfserving.direct"):
        stored.change_rows(
            measurement, lambda rows: [row | {"response_us": 500.0 + row["sent_ns"] % 7} for row in rows]
        )
    (first, *_) = sentences.headlines(build(stored.folder))
    assert first.startswith(
        "p50 of response times, reached directly: no path is faster than keras_dense@tfserving direct"
    )
    assert "or simple_nn@onnx direct" in first
    assert first.endswith("which of them is fastest is too close to call")
