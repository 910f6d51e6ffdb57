"""The models that the onnx package carries: python -m tests.zoo, with its counts."""

import re
import subprocess
import sys

import pytest

from tests.limits import LONG_S

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kinds", "served"), [(("simple", "pytorch-converted", "pytorch-operator"), 90), (("node",), 1300)]
)
def test_every_model_of_the_zoo_is_served_correctly_or_refused_with_a_reason(
    kinds: tuple[str, ...], served: int
) -> None:
    command = [sys.executable, "-m", "tests.zoo", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = re.fullmatch(r"(\d+) models: (\d+) served, (\d+) served and .*, (\d+) refused, 0 wrong", last)
    assert found, last
    whole, asked, drawn, refused = map(int, found.groups())
    assert whole == asked + drawn + refused
    assert asked >= served
