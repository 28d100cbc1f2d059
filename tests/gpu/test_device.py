"""Does hwprof measure a GPU right: its clock, its ceilings, its counters?

Nothing here compares with a number of one certain GPU: datasheets, the wall clock, torch's own allocator and arithmetic
are the witnesses. Where there is no GPU, what needs neither its speed nor its driver runs on one that the CPU plays, at
small sizes; each other test says why it can't.
"""

import math
import time

import pynvml
import pytest
import torch
from with_a_gpu import ASYNCHRONOUS, FAST, HERE, ITS_TIMES, only_with_a_gpu

from hwprof.measure.host.environment import device_name
from hwprof.measure.probes.device import probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.parts import Part
from hwprof.measure.telemetry.readers import gpu_readers
from hwprof.measure.timing import EventTimer, timer_for
from hwprof.specs.catalogue.detect import detect_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default"),  # a torch that only a GPU sees may warn of what is no fault here
]

DEVICE = torch.device("cuda", 0)
DTYPES = ("bf16", "fp16", "tf32", "fp32")
ABOVE_DATASHEET = 1.05
"""A rate further above the datasheet than this is an error of measurement."""


# the clock


def _products(device, count):
    """A piece of work that takes the device some time and the host next to none."""
    matrix = torch.randn(8192, 8192, device=device, dtype=torch.float16)
    out = torch.empty_like(matrix)

    def work():
        for _ in range(count):
            torch.mm(matrix, matrix, out=out)

    work()
    torch.cuda.synchronize(device)
    return work


@ASYNCHRONOUS
def test_device_clock_agrees_with_the_wall_clock_and_marks_do_not_wait():
    work, timer = _products(DEVICE, 100), EventTimer(torch.device("cuda", 0))
    start_s = time.perf_counter()
    start = timer.mark()
    work()
    stop = timer.mark()
    enqueued_s = time.perf_counter() - start_s
    device_s = timer.elapsed_s(start, stop)
    wall_s = time.perf_counter() - start_s
    assert device_s == pytest.approx(wall_s, rel=0.05)
    assert enqueued_s < 0.5 * device_s


@ASYNCHRONOUS
def test_second_gpu_is_timed_on_its_own_stream():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device only")
    other = torch.device("cuda", 1)
    work, timer = _products(other, 20), timer_for(other)
    with torch.cuda.device(other):
        start = timer.mark()
        work()
        stop = timer.mark()
    start_s = time.perf_counter()
    work()
    torch.cuda.synchronize(other)
    assert timer.elapsed_s(start, stop) == pytest.approx(time.perf_counter() - start_s, rel=0.2)


# the ceilings


@pytest.fixture(scope="module")
def probed():
    sides = ((4096, 4096, 4096), (8192, 2048, 8192)) if HERE else ((128, 128, 128), (256, 64, 256))
    shapes = [MatmulShape(*mnk) for mnk in sides]
    parts = [Part(work=shape, calls=1, flop=shape.flop) for shape in shapes]
    return probe_device(DEVICE, dtypes=DTYPES, parts=parts, dtype="bf16", quick=True)


@pytest.fixture(scope="module")
def ceilings(probed):
    return {ceiling.name: ceiling for ceiling in probed.ceilings}


@pytest.fixture(scope="module")
def datasheet():
    spec = detect_device(device_name(DEVICE), kind="cuda")
    if spec is None:
        pytest.skip(f"{device_name(DEVICE)} is not in the catalogue")
    return spec


def test_no_probe_fails_and_only_the_cache_may_be_too_small_to_measure(probed):
    assert {skip.name for skip in probed.skipped} <= {"memory.l2", "matmul.fp8"}  # fp8 before Ada
    assert not [skip for skip in probed.skipped if skip.reason.startswith("failed with")]


@FAST
@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_products_reach_a_good_part_of_the_dense_peak_and_not_more(ceilings, datasheet, dtype):
    peak_flop_per_s = datasheet.matmul_flop_per_s(dtype)
    if peak_flop_per_s is None:
        pytest.skip(f"the catalogue knows no {dtype} peak of {datasheet.id}")
    assert 0.4 * peak_flop_per_s < ceilings[f"matmul.{dtype}"].value <= ABOVE_DATASHEET * peak_flop_per_s


@FAST
def test_products_at_a_models_shapes_stay_below_the_dense_peak(ceilings, datasheet):
    at_shapes = [one for name, one in ceilings.items() if name.startswith("matmul.bf16.") and "copies" not in name]
    assert len(at_shapes) == 2
    assert all(one.value <= ABOVE_DATASHEET * datasheet.matmul_flop_per_s("bf16") for one in at_shapes)


@FAST
def test_number_formats_rank_as_the_hardware_does(ceilings):
    assert ceilings["matmul.fp32"].value < ceilings["matmul.tf32"].value < ceilings["matmul.bf16"].value


@FAST
def test_memory_bandwidth_is_most_of_the_datasheets_and_not_more(ceilings, datasheet):
    bandwidth_byte_per_s = datasheet.memory.bandwidth_byte_per_s
    assert 0.6 * bandwidth_byte_per_s < ceilings["memory.dram"].value <= ABOVE_DATASHEET * bandwidth_byte_per_s


@FAST
def test_transfers_stay_below_the_host_link_and_pinned_memory_helps(ceilings, datasheet):
    for direction in ("host_to_device", "device_to_host"):
        pinned, pageable = (ceilings[f"transfer.{direction}.{memory}"].value for memory in ("pinned", "pageable"))
        assert pinned > 0.9 * pageable
        if datasheet.host_link:
            assert pinned <= ABOVE_DATASHEET * datasheet.host_link.bandwidth_byte_per_s


@FAST
def test_latencies_are_microseconds(ceilings):
    assert 0.5e-6 < ceilings["latency.launch"].value < 100e-6
    assert 0.5e-6 < ceilings["latency.dispatch"].value < 100e-6


@ITS_TIMES
def test_most_ceilings_are_stable_on_a_quiet_machine(probed):
    stable = [ceiling for ceiling in probed.ceilings if ceiling.stable]
    assert len(stable) >= 0.7 * len(probed.ceilings)


def test_probes_leave_torch_as_they_found_it(probed):
    assert probed.ceilings
    assert torch.get_float32_matmul_precision() == "highest"


def test_every_gpu_counter_answers():
    readers, skipped = gpu_readers(pynvml, DEVICE.index)
    assert all(skip.name == "gpu.gpm" or skip.reason.startswith("NVML GPM") for skip in skipped)  # before Hopper
    values = {reader.quantities: reader.read() for reader in readers}
    assert all(math.isfinite(value) and value >= 0 for read in values.values() for value in read)


@only_with_a_gpu("the played counters always say 42 %")
def test_gpm_sees_copies_in_dram_and_products_in_the_tensor_pipe():
    readers, skipped = gpu_readers(pynvml, DEVICE.index)
    reader = next((one for one in readers if "gpu.dram_bandwidth" in one.quantities), None)
    if reader is None:
        pytest.skip(next(skip.reason for skip in skipped if skip.name.startswith("gpu")))
    large = torch.zeros(2**30, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(large)
    products = _products(DEVICE, 8)

    def busy(work):
        torch.cuda.synchronize(DEVICE)
        reader.read()
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < 1.0:
            work()
            torch.cuda.synchronize(DEVICE)
        return dict(zip(reader.quantities, reader.read(), strict=True))

    copying, multiplying = busy(lambda: [other.copy_(large) for _ in range(8)]), busy(products)
    assert 0.4 < copying["gpu.dram_bandwidth"] <= ABOVE_DATASHEET
    assert copying["gpu.tensor_active"] < 0.05
    assert 0.4 < multiplying["gpu.tensor_active"] <= ABOVE_DATASHEET
