"""The parameter file: whole, within bounds, and refused in words where it is not."""

from __future__ import annotations

import tomllib

import pytest

from hwprof.errors import SpecError
from hwprof.specs.catalogue.simulator import simulator_file, simulator_parameters


def test_the_shipped_file_says_how_it_was_made_and_what_was_assumed():
    table = simulator_parameters()
    assert table.fitted_on
    assert table.method
    assert table.rows > 500
    sets = {**table.architecture, **table.device, **table.family, **table.stack}
    assert [name for name, one in sets.items() if one.basis == "assumed" and not one.source] == []


def test_intervals_hold_the_prediction_itself():
    table = simulator_parameters()
    for model in (table.step_time, table.memory):
        assert model.low < 0 < model.high
        assert "base" in model.coefficients


def test_shares_are_shares():
    table = simulator_parameters()
    sets = (*table.architecture.values(), *table.device.values(), *table.family.values(), *table.stack.values())
    values = [(name, value) for one in sets for name, value in one.values.items()]
    assert [pair for pair in values if not pair[1] >= 0] == []
    wrong = [pair for pair in values if pair[0].endswith(("matmul_share", "memory_share", "overlap")) and pair[1] > 1]
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "key"),
    [("rows = 1", "rows"), ("method = 'x'", "method"), ("nonsense = 3", "nonsense")],
)
def test_a_wrong_file_is_refused_by_key(tmp_path, change, key):
    text = simulator_file().read_text()
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
    if key == "nonsense":
        lines.insert(0, change)
    path = tmp_path / "parameters.toml"
    path.write_text("\n".join(lines))
    tomllib.loads(path.read_text())
    with pytest.raises(SpecError, match=key):
        simulator_parameters(path)
