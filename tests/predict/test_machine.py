"""Machines of clusters: the numbers of the files, by hand; what is not known is refused."""

from __future__ import annotations

import pytest

from hwprof.errors import SpecError
from hwprof.predict.machine import machine_of
from hwprof.specs.catalogue.lookup import list_devices, load_cluster


def machine(text, **changes):
    return machine_of(load_cluster(text), **changes)


def test_an_h100_node_and_its_network():
    """NVLink 4: 450 GB/s one direction; NDR InfiniBand: 400 Gb/s a device."""
    many = machine("64xh100-sxm")
    assert (many.devices, many.domain, many.scale, many.torus_axes) == (64, 8, 1, 0)
    assert many.inside_byte_per_s == 450e9
    assert many.between_byte_per_s == 50e9
    assert many.capacity_bytes == pytest.approx(79.18 * 2**30)
    assert many.peak_flop_per_s("bf16") == pytest.approx(989.4e12, rel=1e-3)
    assert many.architecture == "hopper"


def test_a_domain_is_no_larger_than_the_cluster():
    assert machine("4xh100-sxm").domain == 4


def test_a_format_without_a_path_runs_in_the_next_wider_one():
    ampere = machine("8xa100-sxm")
    assert ampere.peak_flop_per_s("fp8") == ampere.peak_flop_per_s("bf16")
    assert ampere.peak_flop_per_s("fp4") == ampere.peak_flop_per_s("bf16")
    hopper = machine("8xh100-sxm")
    assert hopper.peak_flop_per_s("fp4") == hopper.peak_flop_per_s("fp8") > hopper.peak_flop_per_s("bf16")


def test_devices_of_a_package_that_count_as_one_bring_their_rates_together():
    one, two = machine("4xtpu-v7x"), machine("4xtpu-v7x", scale=2)
    assert two.peak_flop_per_s("bf16") == 2 * one.peak_flop_per_s("bf16")
    assert two.capacity_bytes == 2 * one.capacity_bytes
    assert two.memory_byte_per_s == 2 * one.memory_byte_per_s
    assert two.inside_byte_per_s == 2 * one.inside_byte_per_s
    assert two.torus_axes == 3


def test_one_device_alone_needs_no_link():
    assert machine("1xl4").inside_byte_per_s > 0


def test_a_peak_that_is_not_known_is_refused():
    with pytest.raises(SpecError, match="dense fp64 peak of tpu-v5p is not known"):
        machine("4xtpu-v5p").peak_flop_per_s("fp64")


@pytest.mark.parametrize(
    ("cluster", "adds"),
    [
        ("8xh100-sxm", True),
        ("8xb200", True),
        ("2xh100-sxm", False),
        ("8xa100-sxm", False),
        ("8xmi300x", False),
        ("64xtpu-v5p", False),
    ],
)
def test_switches_add_from_the_third_nvswitch_on(cluster, adds):
    """Klenk et al. 2020, as NVLink SHARP in NVLink 4 and 5; two devices exchange without it."""
    assert machine(cluster).adds_in_switch is adds


def test_a_format_without_a_peak_is_replaced_and_said_so():
    node = machine("8xa100-sxm")
    assert node.peak_flop_per_s("fp8") == node.peak_flop_per_s("bf16")
    assert node.assumptions("fp8") == ("a100-sxm4-80gb has no fp8 peak: that of bf16",)
    assert node.assumptions("bf16") == ()


def test_a_host_link_that_no_file_names_is_said_so():
    device = next(device for device in list_devices() if device.host_link is None and device.kind != "cpu")
    assert any(line.startswith("link to the host") for line in machine(f"1x{device.id}").assumptions("bf16"))
    assert not any(line.startswith("link to the host") for line in machine("1xh100-sxm").assumptions("bf16"))
