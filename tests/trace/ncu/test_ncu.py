"""Is Nsight Compute's CSV read as ncu writes it? Raw and details pages, as its versions and locales print them."""

import pytest

from hwprof.errors import InputError
from hwprof.trace.ncu.report import read_counters
from hwprof.trace.ncu.values import Value, value_of

GEMM = "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>(T1::Params)"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float> >(int, float)"

METRICS = (
    ("gpu__time_duration.sum", "us"),
    ("dram__bytes_read.sum", "Mbyte"),
    ("dram__bytes_write.sum", "Kbyte"),
    ("dram__throughput.avg.pct_of_peak_sustained_elapsed", "%"),
    ("lts__throughput.avg.pct_of_peak_sustained_elapsed", "%"),
    ("sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active", "%"),
    ("sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active", "%"),
)


def line(*cells):
    return ",".join(f'"{cell}"' for cell in cells)


def raw(*launches, before=("==PROF== Connected to process 7 (python)", "step 1, loss 5.54")):
    names, units = zip(*METRICS, strict=True)
    rows = [line(at, 7, kernel, *values) for at, (kernel, *values) in enumerate(launches)]
    return "\n".join([*before, line("ID", "Process ID", "Kernel Name", *names), line("", "", "", *units), *rows])


def details(*rows):
    head = line("ID", "Kernel Name", "Section Name", "Metric Name", "Metric Unit", "Metric Value", "Rule Name")
    return "\n".join([head, *(line(*row, "") for row in rows)])


@pytest.fixture
def read(tmp_path):
    def of(text):
        path = tmp_path / "counters.csv"
        path.write_text(text)
        return read_counters(path)

    return of


def test_the_raw_page_is_read_in_the_units_of_its_second_row(read):
    (kernel,) = read(raw((GEMM, "250.5", "12.5", "1,500", "31.0", "40.0", "88.5", "3.2")))
    assert kernel.name == GEMM
    assert kernel.time_s == pytest.approx(250.5e-6)
    assert kernel.dram_bytes == pytest.approx(14e6)  # 12.5 MB and 1500 kB
    assert (kernel.dram_fraction, kernel.l2_fraction) == (pytest.approx(0.31), pytest.approx(0.4))
    assert (kernel.tensor_fraction, kernel.pipe_fraction) == (pytest.approx(0.885), pytest.approx(0.885))


def test_launches_of_a_kernel_are_one_row_and_shares_are_weighted_by_time(read):
    found = read(
        raw(
            (ADD, "10", "1", "0", "90", "30", "0", "12"),
            (GEMM, "100", "8", "0", "20", "30", "80", "5"),
            (ADD, "30", "3", "0", "50", "30", "0", "12"),
        )
    )
    assert [(kernel.name, kernel.launches) for kernel in found] == [(GEMM, 1), (ADD, 2)]
    add = found[1]
    assert (add.time_s, add.dram_bytes) == (pytest.approx(20e-6), pytest.approx(2e6))
    assert add.dram_fraction == pytest.approx((10 * 0.9 + 30 * 0.5) / 40)


def test_the_details_page_gives_bytes_as_a_rate_over_the_duration(read):
    text = details(
        (0, "f", "GPU Speed Of Light Throughput", "Memory Throughput", "%", "71.20"),
        (0, "f", "GPU Speed Of Light Throughput", "DRAM Throughput", "%", "64.00"),
        (0, "f", "GPU Speed Of Light Throughput", "Duration", "us", "20"),
        (0, "f", "GPU Speed Of Light Throughput", "Compute (SM) Throughput", "%", "33.5"),
        (0, "f", "Memory Workload Analysis", "Memory Throughput", "Gbyte/s", "1,500"),
        (1, "f", "GPU Speed Of Light Throughput", "Duration", "us", "40"),
    )
    (kernel,) = read(text)
    assert (kernel.launches, kernel.time_s) == (2, pytest.approx(30e-6))
    assert kernel.dram_bytes == pytest.approx(1500e9 * 20e-6)  # of the launch that has both
    assert (kernel.dram_fraction, kernel.pipe_fraction) == (pytest.approx(0.64), pytest.approx(0.335))


def test_metrics_chosen_on_the_command_line_are_read_from_the_long_format_too(read):
    text = details(
        (0, "f", "Command line profiler metrics", "dram__sectors_read.sum", "sector", "1,000"),
        (0, "f", "Command line profiler metrics", "dram__sectors_write.sum", "sector", "500"),
    )
    assert read(text)[0].dram_bytes == 48_000  # 32 B a sector


def test_a_metric_that_the_gpu_lacks_is_none_and_the_others_are_read(read):
    (kernel,) = read(raw((GEMM, "10", "n/a", "n/a", "31.0", "40.0", "88.5", "3.2")))
    assert kernel.dram_bytes is None
    assert kernel.dram_fraction == pytest.approx(0.31)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("53,261,312", 53_261_312.0),
        ("1,234.5", 1234.5),
        ("27.595.520", 27_595_520.0),
        ("1.234,5", 1234.5),
        ("65,77", 65.77),
        ("117.344", 117.344),
        ("4.0e-05", 4.0e-05),
    ],
)
def test_numbers_are_read_as_each_locale_writes_them(text, number):
    assert value_of("dram__bytes.sum", "byte", text) == Value("dram_bytes", number)


def test_a_unit_of_another_quantity_is_not_taken_for_a_number():
    assert value_of("gpu__time_duration.sum", "cycle", "12") is None
    assert value_of("Memory Throughput", "%", "12") is None
    assert value_of("launch__registers_per_thread", "register/thread", "12") is None


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("", 'no row has "Kernel Name"', "docs/counters.md"),
        ("\0\1PNG\r\n", 'no row has "Kernel Name"', "docs/counters.md"),
        (line("ID", "Kernel Name", "gpu__time_duration.sum"), "a header and no kernel", "docs/counters.md"),
        (details((0, "f", "Occupancy", "Registers", "", "32")), "none of the metrics", "docs/counters.md"),
        (
            "==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU",
            "only for administrators (ERR_NVGPUCTRPERM)",
            "NVreg_RestrictProfilingToAdminUsers=0",
        ),
    ],
)
def test_a_file_without_counters_says_why_and_what_to_do(read, text, said, remedy):
    with pytest.raises(InputError) as caught:
        read(text)
    assert said in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_counters(tmp_path / "nosuch.csv")
