"""What a power cap does: longer arithmetic by the law of power, as was measured; nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprof.errors import InputError
from hwprof.predict.machine import machine_of, with_power_cap
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster
from hwprof.specs.catalogue.simulator import simulator_parameters

STACK, TABLE = stack_named("torch"), simulator_parameters()


def parameters(hardware, cap_watt):
    return parameters_for(TABLE, with_power_cap(machine_of(load_cluster(f"1x{hardware}")), cap_watt), STACK)


def longer(hardware, cap_watt):
    """Of arithmetic, against that at the rating."""
    rated, capped = (parameters(hardware, watt)[0].sustained_share for watt in (None, cap_watt))
    return rated / capped - 1


def test_a_v100_at_150_of_250_watt_is_as_much_slower_as_was_measured():
    """6.8 % longer on average for language models (McDonald et al. 2022, arXiv 2205.09646); no run of the law's fit."""
    assert longer("v100-pcie-32gb", 150) == pytest.approx(0.068, abs=0.015)


def test_an_rtx_3090_at_280_of_350_watt_keeps_95_percent():
    """Puget Systems 2020, "Quad RTX3090 GPU Wattage Limited MaxQ TensorFlow Performance"."""
    assert 0 < longer("rtx-3090", 280) < 0.05


@pytest.mark.parametrize("hardware", ["h100-sxm", "a100-80gb", "mi300x", "rtx-4090"])
def test_less_power_is_slower_and_only_arithmetic_is(hardware):
    shares = [
        parameters(hardware, machine_of(load_cluster(f"1x{hardware}")).device.compute.tdp_watt * part)[0]
        for part in (1, 0.8, 0.5)
    ]
    assert shares[0] == parameters(hardware, None)[0]
    assert shares[0].sustained_share > shares[1].sustained_share > shares[2].sustained_share
    assert (
        replace(shares[2], sustained_share=shares[0].sustained_share, narrow_share=shares[0].narrow_share) == shares[0]
    )


def test_the_basis_says_it():
    assert any(words.startswith("capped at 500 of 700 W: ") for words in parameters("h100-sxm", 500)[1])


@pytest.mark.parametrize(
    ("hardware", "cap_watt", "message"), [("tpu-v5p", 100, "not known"), ("h100-sxm", 100, "too low")]
)
def test_what_has_no_law_or_no_such_cap_is_refused(hardware, cap_watt, message):
    with pytest.raises(InputError, match=message):
        parameters(hardware, cap_watt)
