"""The peaks of a device are what its units do in a clock: by architecture, dtype and clock."""

import tomllib

import pytest

from hwprof.specs.catalogue.lookup import list_devices, load_device
from hwprof.specs.catalogue.shelves import files_of

FLOP_PER_UNIT_AND_CLOCK = {
    "volta": {"fp32": 128, "fp16": 1024},
    "turing": {"fp32": 128, "fp16": 1024, "int8": 2048},
    "ga100": {"fp64": 64, "fp64_matrix": 128, "fp32": 128, "tf32": 1024, "fp16": 2048, "bf16": 2048, "int8": 4096},
    "ga10b": {"fp32": 256, "tf32": 1024, "fp16": 2048, "bf16": 2048, "int8": 4096},
    "ga10": {"fp64": 4, "fp32": 256, "tf32": 512, "fp16": 1024, "bf16": 1024, "int8": 2048},
    "ada": {"fp64": 4, "fp32": 256, "tf32": 512, "fp16": 1024, "bf16": 1024, "fp8": 2048, "int8": 2048},
    "hopper": {"tf32": 2048, "fp16": 4096, "bf16": 4096, "fp8": 8192, "int8": 8192},
    "gb20": {
        "fp64": 4, "fp32": 256, "tf32": 512, "fp16": 1024, "bf16": 1024, "fp8": 2048, "fp4": 4096, "int8": 2048,
    },
    "rdna 3": {"fp32": 256, "fp16": 512, "bf16": 512, "int8": 512},
    "rdna 4": {"fp32": 256, "fp16": 1024, "bf16": 1024, "fp8": 2048, "int8": 2048},
    "xe2": {"fp32": 256, "fp16": 2048, "bf16": 2048, "int8": 4096},
    "cdna2": {
        "fp64": 128, "fp64_matrix": 256, "fp32": 128, "fp32_matrix": 256, "fp16": 1024, "bf16": 1024, "int8": 1024,
    },
    "cdna3": {"fp64": 128, "fp32": 256, "tf32": 1024, "fp16": 2048, "bf16": 2048, "fp8": 4096, "int8": 4096},
}  # fmt: skip
"""Dense, with fp32 accumulation, of a board that is not cut: the vendors' whitepapers of each architecture."""

HALF_RATE = {"tf32", "fp16", "bf16", "fp8"}
"""What GeForce and the L40 family of boards without full-rate accumulation do at half of that."""

CUT = {"h20-sxm5-96gb", "h20-sxm5-141gb", "a10g", "l4"}
"""Boards whose printed rates are below what their units could do: for export, for a cloud, or for 72 W."""


def family_of(device):
    text = device.architecture.lower()
    return next((key for key in FLOP_PER_UNIT_AND_CLOCK if key in text), None)


def clock_hertz(device):
    return device.compute.peak_clock_hertz or device.compute.boost_clock_hertz


CHECKED = [
    device
    for device in list_devices()
    if family_of(device) and device.compute.units and clock_hertz(device) and device.id not in CUT
]


def rates_of(device):
    fields = type(device.peaks.dense).model_fields
    found = {field.alias: getattr(device.peaks.dense, name) for name, field in fields.items()}
    return {dtype: rate for dtype, rate in found.items() if rate is not None}


@pytest.mark.parametrize("device", CHECKED, ids=[device.id for device in CHECKED])
def test_units_times_flop_per_clock_times_clock_is_the_peak(device):
    full = FLOP_PER_UNIT_AND_CLOCK[family_of(device)]
    halved = device.peaks.reduced_accumulate is not None
    for dtype, rate in rates_of(device).items():
        if dtype in full:
            flop = full[dtype] / (2 if halved and dtype in HALF_RATE else 1)
            if device.id in {"l40", "l20"} and dtype == "int8":
                flop /= 2  # NVIDIA prints their int8 as their fp8
            derived = device.compute.units * flop * clock_hertz(device)
            if "hopper" in device.architecture.lower() and not device.compute.peak_clock_hertz:
                assert 0.84 < rate / derived < 1, dtype  # a boost clock overstates
            else:
                assert rate == pytest.approx(derived, rel=0.02), dtype


def test_that_many_devices_are_held_to_their_arithmetic():
    assert len(CHECKED) >= 80


def test_geforce_and_only_boards_at_half_rate_keep_a_reduced_rate():
    halved = {device.id for device in list_devices() if device.peaks.reduced_accumulate is not None}
    geforce = {device.id for device in list_devices() if any("GeForce" in name for name in device.names)}
    assert halved == geforce | {"l40", "l20"}
    for device in halved:
        peaks = load_device(device).peaks
        assert peaks.reduced_accumulate.fp16_flop_per_s == pytest.approx(2 * peaks.dense.fp16_flop_per_s, rel=1e-2)


@pytest.mark.parametrize("kind", ["gpu", "accelerator"])
def test_a_narrower_format_is_never_slower(kind):
    ladder = ("fp32", "tf32", "bf16", "fp8", "fp4")
    for device in list_devices():
        rates = rates_of(device)
        known = [rates[dtype] for dtype in ladder if dtype in rates]
        if device.kind == kind:
            assert known == sorted(known), device.id


def test_fp16_is_bf16_but_where_the_hardware_differs():
    differing = {
        device.id
        for device in list_devices()
        if {"fp16", "bf16"} <= set(rates_of(device)) and rates_of(device)["fp16"] != rates_of(device)["bf16"]
    }
    assert differing == {"mi100", "gaudi3"}


def test_every_table_of_every_device_file_has_a_source():
    for path in files_of("device"):
        tables = tomllib.loads(path.read_text())
        for name, table in tables.items():
            if isinstance(table, dict):
                assert table.get("source"), f"{path.stem}: [{name}]"
                assert all(source.strip() for source in table["source"]), f"{path.stem}: [{name}]"


def test_what_is_announced_says_so_and_claims_no_name():
    announced = [device for device in list_devices() if device.notes.startswith("Announced")]
    assert {device.id for device in announced} == {"mi455x", "rubin-nvl72"}
    for device in announced:
        assert not device.names
        assert device.confidence != "read"


def test_a_program_finds_no_more_memory_than_is_sold():
    for device in list_devices():
        sold = device.memory.sold_as.split()
        if device.memory.capacity_bytes and sold and sold[0].replace(".", "").isdigit():
            packages = 1 if "package" not in device.memory.sold_as else device.devices_per_package
            gib = device.memory.capacity_bytes / 2**30
            assert 0.6 < gib / (float(sold[0]) / packages) < 1.01, device.id  # a TPU v5p has 96 GiB


@pytest.mark.parametrize(
    ("alias", "device"),
    [
        ("4090", "rtx-4090"),
        ("3090", "rtx-3090"),
        ("5090", "rtx-5090"),
        ("RTX4070", "rtx-4070"),
        ("4060-ti-16gb", "rtx-4060-ti-16gb"),
        ("rtx-3080-10gb", "rtx-3080"),
        ("a6000", "rtx-a6000"),
        ("p100", "p100-pcie-16gb"),
        ("v100s", "v100s-pcie-32gb"),
        ("m4-max", "apple-m4-max"),
        ("dgx-spark", "gb10"),
        ("jetson-agx-orin", "jetson-agx-orin-64gb"),
        ("910c", "ascend-910c"),
        ("7900xtx", "rx-7900-xtx"),
        ("b580", "arc-b580"),
        ("inf2", "inferentia2"),
        ("h100-sxm-96gb", "h100-sxm5-96gb-hbm2e"),
        ("rtx-pro-6000", "rtx-pro-6000-blackwell-workstation"),
        ("vr200", "rubin-nvl72"),
    ],
)
def test_the_names_that_people_type_lead_to_a_device(alias, device):
    assert load_device(alias).id == device
