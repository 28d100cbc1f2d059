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


NETWORK_OF_NOBODY = (
    "network between nodes: 100 Gb/s for all 8 devices of a node "
    "(assumed, no rate is known: from 1/4 to 4 times as much)"
)


def made_up(**changes):
    """Two nodes of 8 devices of an H100's file, some tables changed."""
    cluster = load_cluster("16xh100-sxm")
    device = cluster.device.model_copy(update={name: changes[name] for name in changes if name != "cluster"})
    return cluster.model_copy(update={"device": device} | changes.get("cluster", {}))


def test_what_no_file_says_is_assumed_in_words():
    """Without a link the host link carries, and without names of links each empty message takes 10 us.

    Of a network that nobody states the 8 devices of a node share 100 Gb/s.
    """
    h100 = load_cluster("16xh100-sxm").device
    bus = h100.host_link.model_copy(update={"link": ""})
    node = h100.node.model_copy(update={"network": "", "inter_node_byte_per_s": None})
    bare = machine_of(
        made_up(link=None, host_link=bus, node=node, cluster={"network": "", "inter_node_byte_per_s": None})
    )
    assert (bare.inside_byte_per_s, bare.domain) == (bus.bandwidth_byte_per_s, 8)
    assert bare.between_byte_per_s == 12.5e9 / 8
    assert not bare.network_stated
    assert any("10 µs (assumed" in each for each in bare.assumed_links)
    assert bare.assumptions("bf16") == (
        "latency inside a node: 10 µs (assumed, the link has no file)",
        "latency between nodes: 10 µs (assumed, the network has no file)",
        NETWORK_OF_NOBODY,
    )


def test_devices_of_one_node_beyond_their_links_meet_over_the_host():
    """8 devices of which 4 share links: the others are reached through the host's PCIe."""
    one = load_cluster("8xh100-sxm").model_copy(update={"scale_up_domain": 4, "inter_node_byte_per_s": None})
    assert machine_of(one).between_byte_per_s == one.device.host_link.bandwidth_byte_per_s


def test_a_device_with_no_way_to_others_is_refused_unless_it_is_alone():
    lonely = {"link": None, "host_link": None}
    with pytest.raises(SpecError, match="link between devices of h100-sxm5-80gb is not known"):
        machine_of(made_up(**lonely, cluster={"inter_node_byte_per_s": None}))
    assert machine_of(made_up(**lonely)).inside_byte_per_s == 50e9  # the network alone
    alone = {"devices": 1, "devices_per_node": 1, "scale_up_domain": 1, "inter_node_byte_per_s": None}
    assert machine_of(made_up(**lonely, cluster=alone)).domain == 1


def test_memory_that_no_file_states_is_asked_for():
    with pytest.raises(SpecError, match="memory capacity of cpu-epyc-9654 is not known"):
        _ = machine("1xcpu-epyc-9654").capacity_bytes


def test_bridges_are_said_to_be_assumed():
    """Only two cards are joined by a bridge, and not every box has bridges."""
    (said,) = machine("8xa100-pcie").assumptions("bf16")
    assert said.startswith("nvlink3 bridges join every 2 cards, others talk over PCIe (assumed")
    assert machine("8xa100-pcie").bridged
    assert not machine("8xa100-sxm").bridged
    assert machine("1xa100-pcie").assumptions("bf16") == ()


def test_a_network_that_a_file_states_is_not_assumed():
    assert machine("16xh100-sxm").network_stated
