"""Claims that only a machine with an NVIDIA GPU can refute; takes some minutes there.

Run ``pytest -m gpu``. Nothing here compares with a number of one certain GPU: datasheets, the wall clock, torch's own
allocator and arithmetic are the witnesses. What needs neither a GPU's speed nor its driver is claimed in tests/played,
which walks the same code on a device that the CPU plays: each change meets it.
"""

import math
import time

import pynvml
import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel

from hwprof.cli.run import command
from hwprof.count.memory.step import training_memory
from hwprof.measure.host.environment import device_name
from hwprof.measure.probes.device import probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.parts import Part
from hwprof.measure.telemetry.readers import gpu_readers
from hwprof.measure.timing import EventTimer, timer_for
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.report.files.run import read_run
from hwprof.specs.catalogue.detect import detect_device
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.record.run import RunSettings
from hwprof.train.attention import AttentionCore, supports_native_gqa
from hwprof.train.loop import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no CUDA device is visible; what needs none is claimed in tests/played",
    ),
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
    shapes = [MatmulShape(4096, 4096, 4096), MatmulShape(8192, 2048, 8192)]
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_products_reach_a_good_part_of_the_dense_peak_and_not_more(ceilings, datasheet, dtype):
    peak_flop_per_s = datasheet.matmul_flop_per_s(dtype)
    if peak_flop_per_s is None:
        pytest.skip(f"the catalogue knows no {dtype} peak of {datasheet.id}")
    assert 0.4 * peak_flop_per_s < ceilings[f"matmul.{dtype}"].value <= ABOVE_DATASHEET * peak_flop_per_s


def test_products_at_a_models_shapes_stay_below_the_dense_peak(ceilings, datasheet):
    at_shapes = [one for name, one in ceilings.items() if name.startswith("matmul.bf16.") and "copies" not in name]
    assert len(at_shapes) == 2
    assert all(one.value <= ABOVE_DATASHEET * datasheet.matmul_flop_per_s("bf16") for one in at_shapes)


def test_number_formats_rank_as_the_hardware_does(ceilings):
    assert ceilings["matmul.fp32"].value < ceilings["matmul.tf32"].value < ceilings["matmul.bf16"].value


def test_memory_bandwidth_is_most_of_the_datasheets_and_not_more(ceilings, datasheet):
    bandwidth_byte_per_s = datasheet.memory.bandwidth_byte_per_s
    assert 0.6 * bandwidth_byte_per_s < ceilings["memory.dram"].value <= ABOVE_DATASHEET * bandwidth_byte_per_s


def test_transfers_stay_below_the_host_link_and_pinned_memory_helps(ceilings, datasheet):
    for direction in ("host_to_device", "device_to_host"):
        pinned, pageable = (ceilings[f"transfer.{direction}.{memory}"].value for memory in ("pinned", "pageable"))
        assert pinned > 0.9 * pageable
        if datasheet.host_link:
            assert pinned <= ABOVE_DATASHEET * datasheet.host_link.bandwidth_byte_per_s


def test_latencies_are_microseconds(ceilings):
    assert 0.5e-6 < ceilings["latency.launch"].value < 100e-6
    assert 0.5e-6 < ceilings["latency.dispatch"].value < 100e-6


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


# the step

SIZES = {
    "model": "smollm2-135m",  # rotary positions, grouped heads, gated network, RMSNorm, tied embedding
    "device": "cuda",
    "dtype": "bf16",
    "micro_batch": 8,
    "seq_len": 512,
    "optimizer_implementation": "foreach",
    "learning_rate": 3e-4,
    "warmup_steps": 3,
    "steps": 6,
    "eval_batches": 1,
}


@pytest.fixture(scope="module", params=["none", "selective", "full"])
def recorded(request, tmp_path_factory):
    """Settings and recording of a small language model's real steps."""
    settings = RunSettings(**SIZES, recompute=request.param)
    trainer = Trainer(load_model(settings.model), settings, data_path=None, device=DEVICE)
    trace = tmp_path_factory.mktemp("trace") / "trace.json.gz"
    recorder = StepRecorder(trainer, settings, timer=timer_for(DEVICE), device=DEVICE, trace_path=trace)
    try:
        return settings, recorder.run()
    finally:
        trainer.close()


def test_parts_of_the_step_add_up_and_are_explained(recorded):
    attribution = recorded[1].attribution
    parts_s = (
        attribution.compute_s
        + attribution.exposed_communication_s
        + attribution.exposed_copy_s
        + attribution.idle_host_s
        + attribution.idle_input_s
        + attribution.residue_s
    )
    assert parts_s == pytest.approx(attribution.step_s, rel=1e-6)
    assert attribution.explained_fraction > 0.95
    assert attribution.attributed_op_fraction > 0.95


def test_phases_of_a_step_fit_inside_it_on_the_devices_own_clock(recorded):
    _, recording = recorded
    inside = [
        samples for name, samples in recording.phase_samples_s.items() if name not in {"evaluation", "checkpoint"}
    ]
    for index, step_s in enumerate(recording.step_samples_s):
        assert 0.9 * step_s < sum(samples[index] for samples in inside) <= 1.001 * step_s


@pytest.mark.parametrize("label", ["layers.*.ffn.up", "layers.*.ffn.down", "layers.*.attention.query", "head"])
def test_backward_of_a_projection_is_booked_to_it_and_costs_about_two_forwards(recorded, label):
    times_s = {(op.label, op.direction): op.time_s for op in recorded[1].ops}
    assert 1.2 < times_s[label, "backward"] / times_s[label, "forward"] < 5


def test_recompute_runs_the_forward_of_a_layer_again_and_is_booked_apart(recorded):
    settings, recording = recorded
    times_s = {(op.label, op.direction): op.time_s for op in recording.ops}
    again_s = times_s.get(("layers.*.ffn.up", "recompute"), 0.0)
    if settings.recompute == "full":
        assert 0.5 < again_s / times_s["layers.*.ffn.up", "forward"] < 2
    else:  # selective keeps what products give: only the cast of the operands is done again
        assert again_s < 0.7 * times_s["layers.*.ffn.up", "forward"]


def test_optimizer_and_clipping_are_booked_as_updates(recorded):
    assert {("optimizer", "update"), ("clip", "update")} <= {(op.label, op.direction) for op in recorded[1].ops}


def test_memory_was_predicted_within_ten_percent_of_the_allocators_peak(recorded):
    settings, recording = recorded
    predicted_bytes = training_memory(load_model(settings.model), settings).peak_bytes
    assert predicted_bytes == pytest.approx(recording.memory_peak_bytes, rel=0.1)


def test_memory_timeline_reaches_the_allocators_peak(recorded):
    _, recording = recorded
    assert max(size for _, size in recording.memory_timeline) == pytest.approx(recording.memory_peak_bytes, rel=0.02)


def test_loss_of_the_language_model_falls(recorded):
    losses = recorded[1].losses
    assert sum(losses[-3:]) / 3 < losses[0]


def test_phase_marks_cost_next_to_nothing(recorded):
    assert abs(recorded[1].recorder_overhead_fraction) < 0.05


def test_whole_main_job_leaves_a_complete_record(tmp_path):
    sizes = ["--micro-batch", "8", "--seq-len", "512", "--steps", "6", "--eval-batches", "1"]
    done = CliRunner().invoke(
        command,
        ["--model", "gpt2-124m", "--device", "cuda", *sizes, "--output", str(tmp_path / "run")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    record = read_run(tmp_path / "run")
    assert record.status == "complete"
    assert record.step is not None
    assert record.step.mfu is None or 0 < record.step.mfu < 1
    assert record.losses[-1] < record.losses[0]
    assert record.attribution is not None
    assert record.attribution.attributed_op_fraction > 0.95
    assert record.memory is not None
    assert record.memory.predicted_peak_bytes == pytest.approx(record.memory.measured_peak_bytes, rel=0.1)
    assert {"gpu.power", "gpu.sm_clock", "gpu.memory_used"} <= {series.name for series in record.telemetry}
    assert all(series.values for series in record.telemetry)
    booked_flop = sum(op.matmul_flop for op in record.ops)
    assert booked_flop == pytest.approx(record.work.train_flop_causal, rel=1e-9)


# the loop's choices


def _losses(count, **changes):
    settings = RunSettings(**(SIZES | {"model": "tiny", "micro_batch": 8, "seq_len": 256, "workers": 0} | changes))
    trainer = Trainer(load_model(settings.model), settings, data_path=None, device=DEVICE)
    try:
        return [float(trainer.step()) for _ in range(count)]
    finally:
        trainer.close()
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_falls_in_every_number_format(dtype):
    losses = _losses(30, dtype=dtype, learning_rate=1e-3)
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]


@pytest.mark.parametrize("implementation", ["foreach", "fused"])
def test_implementations_of_the_optimizer_take_the_same_steps(implementation):
    plain = _losses(5, dtype="fp32", optimizer_implementation="for-loop")
    assert _losses(5, dtype="fp32", optimizer_implementation=implementation) == pytest.approx(plain, rel=1e-3)


def test_compiled_model_takes_the_same_steps():
    pytest.importorskip("triton")
    assert _losses(3, dtype="fp32", compile=True) == pytest.approx(_losses(3, dtype="fp32"), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_grouped_attention_needs_no_math_kernel_and_agrees_with_it(dtype):
    if torch.cuda.get_device_capability(DEVICE) < (8, 0):
        pytest.skip("its compute capability is below 8.0")
    spec = load_model("1b")
    core = AttentionCore(spec, native_gqa=supports_native_gqa(DEVICE))
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, 256, heads, spec.head_dim, device=DEVICE, dtype=dtype, requires_grad=True)
        for heads in (spec.heads, spec.kv_heads, spec.kv_heads)
    )
    fused = [
        backend
        for name, backend in SDPBackend.__members__.items()
        if name in {"FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"}
    ]
    with sdpa_kernel(fused):
        mixed = core(query, key, value)
    mixed.sum().backward()
    with sdpa_kernel(SDPBackend.MATH):
        expected = core(query, key, value)
    torch.testing.assert_close(mixed, expected, rtol=2e-2, atol=2e-2)
