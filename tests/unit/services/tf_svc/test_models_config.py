from pathlib import Path

import pytest

from servepath.settings import SettingsError
from services.tf_svc import models_config


def test_every_model_with_a_savedmodel_version_is_found(tmp_path: Path) -> None:
    for folder in ("a/saved_model/3", "b/onnx/1", "c/saved_model/.4.tmp", "d/saved_model/1"):
        (tmp_path / folder).mkdir(parents=True)
    assert models_config.find(tmp_path) == {"a": tmp_path / "a" / "saved_model", "d": tmp_path / "d" / "saved_model"}


def test_exports_without_a_savedmodel_are_refused_with_the_fix(tmp_path: Path) -> None:
    for exports in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError, match="run: make export"):
            models_config.find(exports)


def test_what_is_rendered_reads_back(tmp_path: Path) -> None:
    models = {"a": Path("/x/a b"), "b": Path("/y")}
    (tmp_path / "models.config").write_text(models_config.render(models))
    assert {name: entry.base for name, entry in models_config.read(tmp_path / "models.config").items()} == models


def test_a_config_as_the_documentation_writes_it_is_read(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list: { config: { name: 'm', base_path: '/m', model_platform: 'tensorflow',"
        " version_labels { key: 'stable' value: 3 } } }"
    )
    assert models_config.read(config) == {"m": models_config.Entry(Path("/m"), {"stable": 3})}


ENTRY = 'config {{ name: "{}" base_path: "{}" model_platform: "{}" }}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_config_list {", "is not a models.config"),
        ("model_config_list { config { nmae: 'm' } }", "nmae"),
        ("", "lists no model"),
        (f"model_config_list {{ {ENTRY.format('', '/m', 'tensorflow')} }}", "is empty or used twice"),
        (f"model_config_list {{ {ENTRY.format('m', '/m', 'tensorflow') * 2} }}", "'m' is empty or used twice"),
        (f"model_config_list {{ {ENTRY.format('m', 'm', 'tensorflow')} }}", "'m' is not absolute"),
        (f"model_config_list {{ {ENTRY.format('m', '/m', 'torch')} }}", "'torch', expected 'tensorflow'"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_by_file_and_entry(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "models.config"
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        models_config.read(config)
    assert str(config) in str(caught.value)
    assert says in str(caught.value)
