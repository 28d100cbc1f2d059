"""Is a training step on a GPU recorded right, and does the loop train there?

Nothing here compares with a number of one certain GPU: datasheets, the wall clock, torch's own allocator and arithmetic
are the witnesses. Where there is no GPU, what needs neither its speed nor its driver runs on one that the CPU plays, at
small sizes; each other test says why it can't.
"""

import pytest
import torch
from click.testing import CliRunner
from played.sizes import SIZES as SMALL
from torch.nn.attention import SDPBackend, sdpa_kernel
from with_a_gpu import HERE, ITS_ALLOCATOR, ITS_KERNELS, ITS_TIMES, only_with_a_gpu

from hwprof.cli.run import command
from hwprof.count.memory.step import training_memory
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.report.files.run import read_run
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.record.run import RunSettings
from hwprof.train.attention import AttentionCore, supports_native_gqa
from hwprof.train.loop import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default"),  # a torch that only a GPU sees may warn of what is no fault here
]

DEVICE = torch.device("cuda", 0)
DTYPES = ("bf16", "fp16", "tf32", "fp32")


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
PLAYED = {**SMALL, "dtype": "bf16", "optimizer_implementation": "foreach", "learning_rate": 3e-3, "steps": 6}
"""In their place where the device is played."""


@pytest.fixture(scope="module", params=["none", "selective", "full"])
def recorded(request, tmp_path_factory):
    """Settings and recording of a small language model's real steps."""
    settings = RunSettings(**(SIZES if HERE else SIZES | PLAYED), recompute=request.param)
    trainer = Trainer(load_model(settings.model), settings, data_path=None, device=DEVICE)
    trace = tmp_path_factory.mktemp("trace") / "trace.json.gz"
    recorder = StepRecorder(trainer, settings, timer=timer_for(DEVICE), device=DEVICE, trace_path=trace)
    try:
        return settings, recorder.run()
    finally:
        trainer.close()


def test_parts_of_the_step_add_up(recorded):
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


@ITS_TIMES
def test_almost_all_of_a_step_is_explained(recorded):
    attribution = recorded[1].attribution
    assert attribution.explained_fraction > 0.95
    assert attribution.attributed_op_fraction > 0.95


@ITS_TIMES
def test_phases_of_a_step_fit_inside_it_on_the_devices_own_clock(recorded):
    _, recording = recorded
    inside = [
        samples for name, samples in recording.phase_samples_s.items() if name not in {"evaluation", "checkpoint"}
    ]
    for index, step_s in enumerate(recording.step_samples_s):
        assert 0.9 * step_s < sum(samples[index] for samples in inside) <= 1.001 * step_s


@ITS_TIMES
@pytest.mark.parametrize("label", ["layers.*.ffn.up", "layers.*.ffn.down", "layers.*.attention.query", "head"])
def test_backward_of_a_projection_is_booked_to_it_and_costs_about_two_forwards(recorded, label):
    times_s = {(op.label, op.direction): op.time_s for op in recorded[1].ops}
    assert 1.2 < times_s[label, "backward"] / times_s[label, "forward"] < 5


@ITS_TIMES
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


@ITS_ALLOCATOR
def test_memory_was_predicted_within_ten_percent_of_the_allocators_peak(recorded):
    settings, recording = recorded
    predicted_bytes = training_memory(load_model(settings.model), settings).peak_bytes
    assert predicted_bytes == pytest.approx(recording.memory_peak_bytes, rel=0.1)


@ITS_ALLOCATOR
def test_memory_timeline_reaches_the_allocators_peak(recorded):
    _, recording = recorded
    assert max(size for _, size in recording.memory_timeline) == pytest.approx(recording.memory_peak_bytes, rel=0.02)


def test_loss_of_the_language_model_falls(recorded):
    losses = recorded[1].losses
    assert sum(losses[-3:]) / 3 < losses[0]


@ITS_TIMES
def test_phase_marks_cost_next_to_nothing(recorded):
    assert abs(recorded[1].recorder_overhead_fraction) < 0.05


@only_with_a_gpu("tests/played/test_walk.py walks all of the main job on a played one")
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


LOOP = {"model": "tiny", "micro_batch": 8, "seq_len": 256, "workers": 0} if HERE else SMALL | {"micro_batch": 8}


def _losses(count, **changes):
    settings = RunSettings(**(SIZES | LOOP | changes))
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


@ITS_KERNELS
def test_compiled_model_takes_the_same_steps():
    pytest.importorskip("triton")
    assert _losses(3, dtype="fp32", compile=True) == pytest.approx(_losses(3, dtype="fp32"), rel=1e-2)


@ITS_KERNELS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_grouped_attention_needs_no_math_kernel_and_agrees_with_it(dtype):
    if torch.cuda.get_device_capability(DEVICE) < (8, 0):
        pytest.skip("its compute capability is below 8.0")
    spec = load_model("1b")
    core = AttentionCore(spec.heads // spec.kv_heads, native_gqa=supports_native_gqa(DEVICE))
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
