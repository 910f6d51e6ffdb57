import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LONG_S

pytestmark = pytest.mark.slow

FAILING_IMPORT = """
import os
from models import frameworks
with frameworks._stderr_only_on_failure():
    os.write(2, b"libcuda is broken\\n")
    raise ImportError("no")
"""


def test_importing_tensorflow_prints_nothing() -> None:
    command = [sys.executable, "-c", "from models import frameworks; frameworks.tensorflow(); import keras"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_an_import_said_is_shown_when_it_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING_IMPORT], capture_output=True, text=True, timeout=LONG_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("libcuda is broken\n")
    assert "ImportError: no" in done.stderr


ODD_SETTINGS = [
    ({"KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1"}, {}),
    ({"KERAS_BACKEND": "jax"}, {"backend": "torch", "floatx": "float16"}),
    ({}, {"floatx": "float64", "image_data_format": "channels_first", "epsilon": 0.5}),
    ({"KERAS_BACKEND": "no such backend"}, {"floatx": "no such dtype"}),
]
TRAIN_AND_EXPORT = """
import json, sys
from pathlib import Path
from training.__main__ import main as train
from export.__main__ import main as export

folder = Path(sys.argv[1])
code = train(["keras_dense", "--epochs", "3", "--out", str(folder / "models"), "--no-curve"])
code = code or export(["keras_dense", "--models", str(folder / "models"), "--out", str(folder / "exports")])
import keras

seen = [keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon()]
print(json.dumps([code, *seen, keras.config.max_epochs()]))
"""


@pytest.mark.parametrize(("variables", "file"), ODD_SETTINGS)
def test_training_and_export_take_none_of_the_users_keras_settings(
    tmp_path: Path, variables: dict[str, str], file: dict[str, object]
) -> None:
    (tmp_path / "keras.json").write_text(json.dumps(file))
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), **variables}
    command = [sys.executable, "-c", TRAIN_AND_EXPORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False, env=environment)
    assert done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1]) == [0, "tensorflow", "float32", "channels_last", 1e-7, None]
    history = json.loads((tmp_path / "models/keras_dense/history.json").read_text())
    assert history["settings"] == {"backend": "tensorflow", "floatx": "float32", "weights": "float32"}
    assert len(history["losses"]) == 3
    assert json.loads((tmp_path / "keras.json").read_text()) == file


@pytest.mark.parametrize("module", ["models.keras_dense.model", "training.with_keras", "export.keras_model"])
def test_every_module_that_imports_keras_does_so_with_our_settings(module: str) -> None:
    said = f"import {module}, os, keras; print(keras.config.backend(), os.environ['KERAS_BACKEND'])"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", said]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=True, env=environment)
    assert done.stdout.split() == ["tensorflow", "torch"]


def test_keras_that_was_imported_before_with_other_settings_is_refused() -> None:
    said = "import keras; keras.config.set_floatx('float64'); from models import frameworks; frameworks.tensorflow()"
    command = [sys.executable, "-c", said]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: Keras is imported with {'backend': 'tensorflow', 'floatx': 'float64'}; "
        "import models.frameworks first and call tensorflow()"
    )
