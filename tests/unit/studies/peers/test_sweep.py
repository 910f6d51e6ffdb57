from collections.abc import Callable, Mapping
from pathlib import Path

from studies.peers.rows import MANY, SOME, SWEEP, Load, Tuning
from studies.peers.sweep import best, choose

KEY = {"host": "a machine", "sha256": "an archive"}


def attempts(tried: list[Tuning]) -> Callable[[Tuning], Mapping[Load, float]]:
    def attempt(tuning: Tuning) -> Mapping[Load, float]:
        tried.append(tuning)
        return {SOME: 1.0 / tuning.batch_size, MANY: float(tuning.batch_size + tuning.max_batch_delay)}

    return attempt


def test_each_load_gets_its_own_best_tuning(tmp_path: Path) -> None:
    found = best(tmp_path / "sweep.json", KEY, (SOME, MANY), attempts([]))
    assert found == {SOME: Tuning(1, 1, 1), MANY: Tuning(256, 5, 1)}


def test_the_same_key_is_not_swept_again(tmp_path: Path) -> None:
    tried: list[Tuning] = []
    first = best(tmp_path / "sweep.json", KEY, (SOME, MANY), attempts(tried))
    assert best(tmp_path / "sweep.json", KEY, (SOME, MANY), attempts(tried)) == first
    assert tried == list(SWEEP)


def test_another_artifact_is_swept_again(tmp_path: Path) -> None:
    tried: list[Tuning] = []
    best(tmp_path / "sweep.json", KEY, (SOME,), attempts(tried))
    best(tmp_path / "sweep.json", KEY | {"sha256": "another"}, (SOME,), attempts(tried))
    assert tried == [*SWEEP, *SWEEP]


def test_a_file_that_is_cut_is_swept_again(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text('{"key":')
    tried: list[Tuning] = []
    best(file, KEY, (SOME,), attempts(tried))
    assert tried == list(SWEEP)


def test_a_tuning_whose_measurement_was_void_is_not_chosen() -> None:
    rates: list[Mapping[str, float]] = [{} for _ in SWEEP]
    rates[3] = {str(SOME): 1.0}
    assert choose(rates, SOME) == SWEEP[3]
