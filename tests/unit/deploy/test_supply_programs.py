from pathlib import Path

import pytest

from deploy.supply.programs import ProgramMissingError, program


def test_a_program_is_where_make_sbom_puts_it(tmp_path: Path) -> None:
    (tmp_path / "pip-audit").touch()
    assert program("pip-audit", tmp_path) == str(tmp_path / "pip-audit")


def test_a_program_that_is_not_there_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissingError) as caught:
        program("pip-audit", tmp_path)
    assert str(caught.value) == f"there is no {tmp_path / 'pip-audit'}; run: make sbom"
