"""The hardware files avoid the known traps: sparse, half-rate, per-package and both-ways figures, GB and GiB."""

from pathlib import Path

import pytest

from hwprof.specs.catalogue.check import check_catalogue
from hwprof.specs.catalogue.lookup import list_devices, list_links, load_cluster, load_device, load_link

ROOT = Path(__file__).resolve().parents[3]
TERA, GIGA, GIB = 1e12, 1e9, 2**30


def test_the_whole_catalogue_is_right_and_no_name_is_claimed_twice():
    count, problems = check_catalogue()
    assert problems == []
    folders = ("models", "hardware_specs/devices", "hardware_specs/links", "hardware_specs/clusters")
    files = [path for folder in folders for path in (ROOT / folder).iterdir() if path.suffix in {".toml", ".json"}]
    assert count == len(files)


@pytest.mark.parametrize(
    ("device", "bf16_tera"),
    [
        ("h100-sxm5-80gb", 989.4),  # 1979 is with sparsity
        ("h200-sxm5-141gb", 989.4),
        ("h100-pcie-80gb", 756.5),
        ("h800-sxm5-80gb", 989.4),  # a peer swaps it with the PCIe board's 756
        ("h20-sxm5-96gb", 148),
        ("a100-sxm4-80gb", 312),
        ("a10", 125),
        ("a10g", 70),  # not the A10's 125
        ("l4", 121),  # 242 is with sparsity
        ("l40s", 362),
        ("rtx-3090", 71),  # 142 is with fp16 accumulation
        ("rtx-4090", 165.2),  # 330 with fp16 accumulation, 661 also with sparsity
        ("rtx-5090", 209.5),
        ("b200-sxm-180gb", 2250),
        ("gb200-nvl72", 2500),
        ("b100-192gb", 1750),  # 3500 is with sparsity
        ("mi100", 92.3),  # half of its fp16
        ("mi250x", 191.5),  # 383 is the package of two HIP devices
        ("mi300x", 1307.4),  # 2615 is with sparsity
        ("mi355x", 2516.6),
        ("tpu-v2", 22.5),
        ("tpu-v3", 61.5),
        ("tpu-v5p", 459),
        ("tpu-v7x", 1153.5),  # 4614 is the chip's fp8
        ("gaudi3", 1677),  # 1835 needs a clock that shipping parts do not run at
        ("max-1550", 419.5),
        ("trainium1", 95),
        ("trainium2", 166.75),
    ],
)
def test_bf16_peak_is_dense_with_fp32_accumulation_per_framework_device(device, bf16_tera):
    assert load_device(device).matmul_flop_per_s("bf16") == pytest.approx(bf16_tera * TERA, rel=1e-9)


@pytest.mark.parametrize("device", ["v100-sxm2-16gb", "v100-pcie-32gb", "t4"])
def test_volta_and_turing_have_no_bf16_and_no_tf32(device):
    spec = load_device(device)
    assert spec.matmul_flop_per_s("bf16") is None
    assert spec.matmul_flop_per_s("tf32") is None


def test_datatype_ladders_are_not_always_twofold():
    assert load_device("a100").matmul_flop_per_s("fp8") is None
    assert load_device("mi355x").matmul_flop_per_s("tf32") is None
    assert load_device("tpu-v5p").matmul_flop_per_s("fp8") == load_device("tpu-v5p").matmul_flop_per_s("bf16")
    assert load_device("b300").peaks.dense.int8_op_per_s == pytest.approx(153.5 * TERA)
    mi250x = load_device("mi250x").peaks.dense
    assert mi250x.int8_op_per_s == mi250x.fp16_flop_per_s
    assert load_device("h100").matmul_flop_per_s("tf32") == pytest.approx(494.7 * TERA)


def test_fp32_matmul_uses_matrix_units_where_they_are_faster():
    assert load_device("mi250x").matmul_flop_per_s("fp32") == pytest.approx(47.85 * TERA)
    assert load_device("h100").matmul_flop_per_s("fp32") == pytest.approx(66.9 * TERA)
    assert load_device("a100").matmul_flop_per_s("fp64") == pytest.approx(19.5 * TERA)


@pytest.mark.parametrize(("device", "fp16_tera"), [("rtx-3090", 142), ("rtx-4090", 330.3), ("rtx-5090", 419)])
def test_geforce_keeps_its_twofold_rate_of_fp16_accumulation_apart(device, fp16_tera):
    peaks = load_device(device).peaks
    assert peaks.reduced_accumulate is not None
    assert peaks.reduced_accumulate.fp16_flop_per_s == pytest.approx(fp16_tera * TERA)
    assert peaks.reduced_accumulate.fp16_flop_per_s / peaks.dense.fp16_flop_per_s == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("device", "giga_byte_per_s"),
    [
        ("h100-sxm5-80gb", 3350),
        ("h200-sxm5-141gb", 4800),  # a scrape says 3360
        ("l4", 300),  # a peer copies the H100's 3350
        ("b200-sxm-180gb", 7700),
        ("a100-sxm4-40gb", 1555),
        ("a100-sxm4-80gb", 2039),
        ("mi250x", 1638.5),
        ("tpu-v7x", 3690),
        ("rtx-pro-6000-blackwell-server", 1597),
    ],
)
def test_memory_bandwidth_is_decimal_and_per_framework_device(device, giga_byte_per_s):
    assert load_device(device).memory.bandwidth_byte_per_s == pytest.approx(giga_byte_per_s * GIGA)


@pytest.mark.parametrize(
    ("device", "gib"),
    [
        ("h100", 79.18),  # 79.65 is nvidia-smi's
        ("h200", 139.8),
        ("b200", 178.35),
        ("v100", 31.74),
        ("v100-sxm2-16gb", 15.78),
        ("t4", 14.56),
        ("l4", 22.03),
        ("a10", 22.03),
        ("l40s", 44.4),
        ("mi250x", 64),
        ("tpu-v2", 7.48),  # 8 are sold
        ("tpu-v3", 15.48),
        ("tpu-v4", 30.75),
        ("tpu-v5e", 15.75),
        ("tpu-v5p", 95.74),
        ("tpu-v6e", 31.25),
        ("tpu-v7x", 94.75),
    ],
)
def test_capacity_is_binary_usable_and_per_framework_device(device, gib):
    assert load_device(device).memory.capacity_bytes == pytest.approx(gib * GIB)


@pytest.mark.parametrize(
    ("device", "per_device", "per_pair"),
    [
        ("h100", 450, 450),  # printed as 900 both ways
        ("a100", 300, 300),
        ("a800", 200, 200),
        ("h800", 200, 200),
        ("b200", 900, 900),
        ("mi300x", 448, 64),  # a pair has one of seven links
        ("mi355x", 537.6, 76.8),  # AMD rounds 153.6 both ways to 153
        ("gaudi2", 262.5, 37.5),  # three of 24 ports leave the box
        ("tpu-v5p", 600, 100),  # 1200 is both ways
        ("h200-nvl", 450, 150),
        ("rtx-3090", 56.25, 56.25),
    ],
)
def test_link_rates_are_one_way_and_a_mesh_pair_has_its_own_links_only(device, per_device, per_pair):
    link = load_device(device).link
    assert link.per_device_byte_per_s == pytest.approx(per_device * GIGA)
    assert link.per_pair_byte_per_s == pytest.approx(per_pair * GIGA)


def test_links_times_the_rate_of_one_link_is_the_rate_of_a_device():
    counted = [device for device in list_devices() if device.link and device.link.links]
    assert len(counted) > 30
    for device in counted:
        one = load_link(device.link.link).bandwidth_byte_per_s
        assert one * device.link.links == pytest.approx(device.link.per_device_byte_per_s), device.id


def test_a_full_mesh_spends_its_links_on_its_peers():
    meshes = [device for device in list_devices() if device.link and device.link.topology == "mesh"]
    assert {device.id for device in meshes} == {
        "mi100", "mi300a", "mi300x", "mi325x", "mi350x", "mi355x", "gaudi2", "gaudi3",
        "a100-sxm4-64gb", "gh200-96gb-quad", "ascend-910b3",
    }  # fmt: skip
    for device in meshes:
        peers = device.node.scale_up_domain - 1
        assert device.link.per_pair_byte_per_s * peers == pytest.approx(device.link.per_device_byte_per_s), device.id


def test_bridges_join_few_cards_and_nvl72_reaches_beyond_its_node():
    assert load_device("a100-pcie").node.scale_up_domain == 2
    assert load_device("h200-nvl").node.scale_up_domain == 4
    assert (load_device("gb200").node.devices, load_device("gb200").node.scale_up_domain) == (4, 72)


@pytest.mark.parametrize(
    ("device", "giga_byte_per_s"),
    [
        ("t4", 15.75),
        ("a100", 31.5),
        ("h100", 63),
        ("b300", 63),  # PCIe 6.0 leads to its network card, not to the host
        ("gh200", 450),
        ("gb200", 225),  # a Grace has 450 for two GPUs
        ("gb300", 225),
        ("mi250x", 36),
    ],
)
def test_host_links_are_one_way(device, giga_byte_per_s):
    assert load_device(device).host_link.bandwidth_byte_per_s == pytest.approx(giga_byte_per_s * GIGA)


def test_network_bits_become_bytes():
    assert load_device("h100").node.inter_node_byte_per_s == pytest.approx(50 * GIGA)
    assert load_device("mi250x").node.inter_node_byte_per_s == pytest.approx(12.5 * GIGA)
    assert load_link("ib-ndr").bandwidth_byte_per_s == pytest.approx(50 * GIGA)


@pytest.mark.parametrize(
    ("device", "devices"),
    [
        ("mi250x", 2),
        ("tpu-v2", 2),
        ("tpu-v3", 2),
        ("tpu-v7x", 2),
        ("max-1550", 2),
        ("trainium1", 2),
        ("trainium2", 4),
        ("trainium3", 4),
        ("mi250", 2),
        ("ascend-910c", 2),
        ("inferentia2", 2),
    ],
)
def test_a_package_is_its_devices_together(device, devices):
    spec = load_device(device)
    package = spec.package
    assert spec.devices_per_package == devices
    assert package.bf16_flop_per_s == pytest.approx(devices * spec.matmul_flop_per_s("bf16"))
    assert 0.93 < devices * spec.memory.capacity_bytes / package.capacity_bytes <= 1  # a runtime keeps a part
    assert package.bandwidth_byte_per_s == pytest.approx(devices * spec.memory.bandwidth_byte_per_s)


def test_all_other_devices_are_their_own_package():
    assert sum(device.package is not None for device in list_devices()) == 11
    assert load_device("tpu-v4").devices_per_package == load_device("h100").devices_per_package == 1


@pytest.mark.parametrize(
    ("device", "flop_per_unit_and_clock"),
    [("h100", 4096), ("h200", 4096), ("h100-pcie", 4096), ("b200", 8192), ("epyc-9654", 64), ("epyc-9755", 128)],
)
def test_units_times_flop_per_clock_times_peak_clock_is_the_bf16_peak(device, flop_per_unit_and_clock):
    spec = load_device(device)
    derived = spec.compute.units * flop_per_unit_and_clock * spec.compute.peak_clock_hertz
    assert spec.matmul_flop_per_s("bf16") == pytest.approx(derived, rel=2e-3)


def test_max_clocks_overstate_the_h100():
    compute = load_device("h100").compute
    assert compute.units * 4096 * compute.boost_clock_hertz == pytest.approx(1070 * TERA, rel=1e-3)


def test_cpu_bandwidth_is_channels_times_transfers_times_eight_bytes():
    assert load_device("epyc-7763").memory.bandwidth_byte_per_s == pytest.approx(8 * 3200e6 * 8)
    assert load_device("epyc-9654").memory.bandwidth_byte_per_s == pytest.approx(12 * 4800e6 * 8)


def test_zen4_avx512_is_double_pumped():
    spec = load_device("epyc-9654")
    assert spec.matmul_flop_per_s("fp32") == pytest.approx(96 * 32 * 2.4e9, rel=1e-3)


def test_pcie_rates_follow_from_lanes_and_encoding():
    assert load_link("pcie4-x16").bandwidth_byte_per_s == pytest.approx(16e9 * 16 * 128 / 130 / 8, rel=1e-3)
    assert load_link("pcie6-x16").bandwidth_byte_per_s == pytest.approx(64e9 * 16 * 242 / 256 / 8, rel=1e-3)


def test_latencies_without_a_source_say_that_they_are_assumed():
    for link in list_links():
        assert link.source["latency"].startswith("assumed") == (link.latency_origin == "assumed"), link.id


def test_every_link_says_what_collectives_reach_and_who_says_so():
    for link in list_links():
        traits = link.collectives
        assert traits.source, link.id
        if traits.origin == "measured":
            assert not traits.source[0].startswith("assumed"), link.id
        else:
            assert any("assumed" in line or "scaling-book" in line for line in traits.source), link.id


@pytest.mark.parametrize(
    ("link", "line_gb_per_s", "reached_gb_per_s"),
    [("nvlink3", 300, 235), ("nvlink4", 450, 370), ("infinity-fabric-gen4", 448, 312.9)],
)
def test_shares_are_those_of_large_rings_elsewhere(link, line_gb_per_s, reached_gb_per_s):
    """nccl-tests of an A100 node; NCCL's maintainers of an H100 node without addition in the switch; an MI300X node."""
    assert load_link(link).collectives.share * line_gb_per_s == pytest.approx(reached_gb_per_s, rel=0.06)


@pytest.mark.parametrize(
    ("cluster", "devices", "nodes", "domain", "giga_byte_per_s"),
    [
        ("dgx-a100", 8, 1, 8, 25),
        ("dgx-h100", 8, 1, 8, 50),
        ("dgx-gb200", 72, 18, 72, 50),
        ("aws-p4d", 8, 1, 8, 6.25),
        ("tpu-v5p-64", 64, 16, 64, 6.25),
        ("aws-p5en", 8, 1, 8, 50),
        ("aws-p6-b300", 8, 1, 8, 100),
        ("aws-p6e-gb200", 72, 18, 72, 50),
        ("aws-trn2", 64, 1, 64, 6.25),
        ("azure-nd-h200-v5", 8, 1, 8, 50),
        ("gcp-a3-high", 8, 1, 8, 12.5),  # 1000 Gb/s are printed for the host
        ("gcp-a4", 8, 1, 8, 50),
        ("quad-gh200", 4, 1, 4, 25),
        ("mi355x-node", 8, 1, 8, 50),
        ("tpu-v6e-256", 256, 32, 256, 12.5),
    ],
)
def test_clusters_have_their_nodes_domain_and_network(cluster, devices, nodes, domain, giga_byte_per_s):
    spec = load_cluster(cluster)
    assert (spec.devices, spec.nodes, spec.scale_up_domain) == (devices, nodes, domain)
    assert spec.inter_node_byte_per_s == pytest.approx(giga_byte_per_s * GIGA)


def test_prices_are_ranges():
    for device in list_devices():
        if device.price:
            assert 0 < device.price.low_usd_per_hour <= device.price.high_usd_per_hour < 20
