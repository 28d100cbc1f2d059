"""Which value of a parameter holds: the most particular one, and it says what it rests on."""

from __future__ import annotations

import pytest

from hwprof.errors import SpecError
from hwprof.predict.machine import machine_of
from hwprof.predict.parameters import (
    BOUNDS,
    DEVICE_NAMES,
    FITTED_NAMES,
    NAMES,
    STACK_NAMES,
    parameters_for,
    sustained_share,
)
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_device
from hwprof.specs.catalogue.simulator import (
    ErrorModel,
    ParameterSet,
    SimulatorParameters,
    ThrottleLaw,
    simulator_parameters,
)

H100, STACK = machine_of(load_cluster("8xh100-sxm")), stack_named("megatron-core")
NOTHING = ErrorModel(coefficients={"base": 0.0}, low=-1, high=1)


def table(**levels):
    sets = {
        "architecture": {"other": ParameterSet(basis="assumed", source="all", values=dict.fromkeys(DEVICE_NAMES, 2.0))},
        "family": {"megatron": ParameterSet(values=dict.fromkeys(STACK_NAMES, 3.0))},
    }
    general = {"fitted_on": "today", "method": "by hand", "rows": 0, "step_time": NOTHING, "memory": NOTHING}
    return SimulatorParameters(**general | sets | levels)


def one(value):
    return ParameterSet(values={"sustained_share": value, "kernel_host_s": value})


def test_every_parameter_belongs_to_exactly_one_kind():
    assert (*DEVICE_NAMES, *STACK_NAMES) == NAMES
    assert set(BOUNDS) == set(FITTED_NAMES)


def test_the_more_particular_value_holds_and_the_rest_is_inherited():
    other = table().architecture["other"]
    found, basis = parameters_for(
        table(
            architecture={"other": other, "hopper": one(0.5)},
            device={H100.device.id: one(0.6)},
            stack={"megatron-core": one(0.7)},
        ),
        H100,
        STACK,
    )
    assert (found.sustained_share, found.memory_share) == (0.6, 2.0)
    assert (found.kernel_host_s, found.tensor_overlap) == (0.7, 3.0)
    assert basis == (f"fitted for {H100.device.id}", "fitted for megatron-core")


def test_an_assumption_is_called_one():
    _, basis = parameters_for(table(), H100, STACK)
    assert basis == ("assumed for other devices: all", "fitted for the megatron family")


def test_a_gpu_without_values_of_its_own_slows_down_by_its_power():
    """989.4 TFLOP/s at 700 W are 1.4134 TFLOP a joule: 1 / (1 + 0.2 x 1.4134^2) = 0.7145; own values stand before."""
    law = ThrottleLaw(scale=0.2, exponent=2.0)
    other = table().architecture["other"]
    assert parameters_for(table(throttle=law), H100, STACK)[0].sustained_share == pytest.approx(0.7145, abs=2e-4)
    assert f"sustained clock of {H100.device.id} by its 700 W" in parameters_for(table(throttle=law), H100, STACK)[1][2]
    found, basis = parameters_for(table(throttle=law, device={H100.device.id: one(0.6)}), H100, STACK)
    assert (found.sustained_share, len(basis)) == (0.6, 2)
    tpu = machine_of(load_cluster("4xtpu-v5p"))
    sets = table(throttle=law, architecture={"other": other, "tpu": one(0.5)})
    assert parameters_for(sets, tpu, STACK)[0].sustained_share == 0.5


def test_more_power_for_the_same_arithmetic_never_slows_a_gpu():
    """The 500 W and the 700 W board of one chip."""
    law = simulator_parameters().throttle
    slow, fast = (sustained_share(load_device(name), law) for name in ("h100-sxm5-96gb-hbm2e", "h100-sxm5-80gb"))
    assert 0.6 <= slow < fast < 1


def test_a_value_that_is_missing_is_refused_by_name():
    with pytest.raises(SpecError, match="has no sustained_share"):
        parameters_for(table(architecture={"other": ParameterSet(values={})}), H100, STACK)


def test_an_h200_computes_as_an_h100_and_the_basis_says_so():
    """The same chip with other memory (NVIDIA H200 datasheet): more bandwidth, the same arithmetic."""
    shipped, stack = simulator_parameters(), stack_named("torch")
    older, newer = (machine_of(load_cluster(f"8x{name}")) for name in ("h100-sxm", "h200"))
    (first, _), (second, basis) = (parameters_for(shipped, machine, stack) for machine in (older, newer))
    assert first == second
    assert any("h100-sxm5-80gb" in line for line in basis)


def test_shipped_values_lie_within_their_bounds():
    shipped = simulator_parameters()
    sets = (*shipped.architecture.values(), *shipped.device.values(), *shipped.family.values(), *shipped.stack.values())
    for one_set in sets:
        for name, value in one_set.values.items():
            if name in BOUNDS:
                assert BOUNDS[name].low * 0.999 <= value <= BOUNDS[name].high * 1.001, name
