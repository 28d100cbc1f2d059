"""``hwprof plan``: the JSON contract, tables, several machines, wrong input."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner
from made_up_record import made_up_ceiling, made_up_record, made_up_step

from hwprof.cli.plan.command import command
from hwprof.errors import HwprofError
from hwprof.report.files.run import write_record
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.record.run import DeviceIdentity

SMALL = ["--model", "1b", "--hardware", "h100-sxm", "--devices", "4", "--global-batch", "16", "--seq-len", "1024"]


def run(*arguments):
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_json_keeps_the_contract():
    found = json.loads(run(*SMALL, "--tokens", "1B", "--format", "json").stdout)
    plans = found["plans"]
    assert found["evaluated"] > sum(found["rejected"].values())
    assert found["search_s"] > 0
    assert [plan["rank"] for plan in plans] == list(range(1, len(plans) + 1))
    for plan in plans:
        assert plan["tp"] * plan["pp"] * plan["dp"] * plan["cp"] == 4
        assert plan["micro_batch"] * plan["micro_batches"] * plan["dp"] == 16
        assert plan["interval_s"][0] < plan["step_s"] < plan["interval_s"][1]
        assert plan["memory"]["device_bytes"] < plan["memory"]["capacity_bytes"]
        assert 0 < plan["mfu"] < 1
        # 10^9 tokens of 16 x 1024 a step
        assert plan["bill"]["step_days"] == pytest.approx(1e9 / (16 * 1024) * plan["step_s"] / 86400)
        assert plan["bill"]["days"] == pytest.approx(plan["bill"]["step_days"] / plan["goodput"]["fraction"])
    assert 1 in found["pareto"]
    assert set(found["options"][0]["sensitivity"]) >= {"matrix-multiply rate", "memory capacity"}


def test_devices_that_share_an_expert_are_asked_for_and_told():
    asked = ("--model", "mixtral-8x7b", "--hardware", "h100-sxm", "--devices", "16", "--global-batch", "16")
    degrees = ("--seq-len", "1024", "--tp", "4", "--ep", "2", "--etp", "2", "--cp", "1")
    plans = json.loads(run(*asked, *degrees, "--format", "json").stdout)["plans"]
    assert {(plan["tp"], plan["ep"], plan["etp"]) for plan in plans} == {(4, 2, 2)}
    assert " ep2 etp2 " in run(*asked, *degrees).stdout
    with pytest.raises(HwprofError, match="no experts that devices could share"):
        run(*SMALL, "--etp", "2")


def test_machines_stand_side_by_side_and_one_is_too_small(tmp_path):
    options = ["--model", "7b", "--hardware", "rtx-4090,h100-sxm", "--devices", "1,8", "--global-batch", "64"]
    result = run(*options, "--seq-len", "2048", "--output", str(tmp_path), "--objective", "cost")
    with (tmp_path / "capacity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["hardware"], row["devices"]) for row in rows] == [
        ("rtx-4090", "1"),
        ("rtx-4090", "8"),
        ("h100-sxm5-80gb", "1"),
        ("h100-sxm5-80gb", "8"),
    ]
    assert (rows[0]["fits"], rows[3]["fits"]) == ("no", "yes")
    assert "device has" in rows[0]["reason"]
    assert float(rows[3]["step_lo_s"]) < float(rows[3]["step_s"]) < float(rows[3]["step_hi_s"])
    assert "1 x rtx-4090: no: " in result.stdout


def test_a_machine_that_does_not_exist_is_a_row_beside_others(tmp_path):
    """There is no usual network of a consumer card: 64 of them are no machine."""
    options = ["--model", "7b", "--hardware", "rtx-4090,h100-sxm", "--devices", "64", "--global-batch", "64"]
    result = run(*options, "--seq-len", "2048", "--output", str(tmp_path), "--format", "json")
    found = json.loads(result.stdout)
    assert {plan["hardware"] for plan in found["plans"]} == {"h100-sxm5-80gb"}
    assert [(option["hardware"], option["fits"]) for option in found["options"]] == [
        ("h100-sxm5-80gb", True),
        ("rtx-4090", False),
    ]
    with (tmp_path / "capacity.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[1]
    assert (row["hardware"], row["devices"], row["fits"]) == ("rtx-4090", "64", "no")
    assert "no usual network is known" in row["reason"]
    with pytest.raises(HwprofError, match="no usual network is known"):
        run(*options[:3], "rtx-4090", *options[4:])


def test_output_holds_tables_and_the_settings_that_can_be(tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "accelerate.yaml").write_text("of an earlier plan")
    fixed = ["--pp", "2", "--schedule", "1f1b"]
    found = json.loads(run(*SMALL, *fixed, "--output", str(tmp_path), "--format", "json").stdout)
    made = {one["framework"].split(" ")[0]: one for one in found["settings"]}
    assert "pipeline parallel" in made["Accelerate"]["lacks"]
    assert made["Megatron-LM"]["file"] == "megatron.sh"
    assert not (tmp_path / "settings" / "accelerate.yaml").exists()
    assert {path.name for path in (tmp_path / "settings").iterdir()} == {
        one["file"] for one in found["settings"] if one["file"]
    }
    script = (tmp_path / "settings" / "megatron.sh").read_text()
    assert "--pipeline-model-parallel-size 2 " in script
    with (tmp_path / "settings.csv").open(newline="") as file:
        rows = {row["framework"].split(" ")[0]: row for row in csv.DictReader(file)}
    assert rows["Megatron-LM"]["file"] == "settings/megatron.sh"
    assert rows["Accelerate"]["lacks"].startswith("pipeline parallel")


def test_chances_are_told_of_time_alone():
    plans = json.loads(run(*SMALL, "--format", "json").stdout)["plans"]
    assert all(0.5 <= plan["faster_than_next_probability"] <= 1 for plan in plans[:-1])
    cheapest = json.loads(run(*SMALL, "--objective", "cost", "--format", "json").stdout)["plans"]
    assert {plan["faster_than_next_probability"] for plan in cheapest} == {None}
    costs = [sum(plan["bill"]["usd"]) for plan in cheapest]
    assert costs == sorted(costs)


def test_csv_has_a_header_row_and_a_row_a_plan(tmp_path):
    path = tmp_path / "out" / "plans.csv"
    found = json.loads(run(*SMALL, "--csv", str(path), "--format", "json").stdout)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["plans"])
    assert float(rows[0]["step_s"]) == pytest.approx(found["plans"][0]["step_s"])


def test_a_deadline_that_can_not_be_met_is_a_reason():
    found = json.loads(run(*SMALL, "--tokens", "15T", "--deadline", "1d", "--format", "json").stdout)
    assert found["plans"] == []
    assert found["rejected"]["inside_limits"] > 0
    assert "the deadline leaves" in found["options"][0]["reason"]


def test_the_limit_that_leaves_less_is_named():
    found = json.loads(
        run(*SMALL, "--tokens", "15T", "--deadline", "90000d", "--budget", "10", "--format", "json").stdout
    )
    assert "the budget leaves" in found["options"][0]["reason"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--devices", "-1"],
        ["--devices", "two"],
        ["--hardware", "h999"],
        ["--model", "nosuch"],
        ["--tokens", "nan"],
        ["--budget", "2M"],
        ["--deadline", "soon", "--tokens", "1T"],
        ["--schedule", "sideways"],
        ["--pue", "0.5"],
    ],
)
def test_wrong_input_is_refused_with_exit_code_2(wrong):
    try:
        code = run(*SMALL, *wrong).exit_code
    except HwprofError as error:
        code = error.exit_code
    assert code == 2


@pytest.mark.parametrize("limit", [["--deadline", "30d"], ["--budget", "2M"]])
def test_a_limit_of_the_whole_training_asks_for_its_tokens(limit):
    with pytest.raises(HwprofError, match=r"its length is not known; give its tokens too, such as --tokens 2T$"):
        run(*SMALL, *limit)


@pytest.mark.parametrize("missing", ["--model", "--hardware", "--devices"])
def test_what_is_needed_is_asked_for(missing):
    place = SMALL.index(missing)
    with pytest.raises(HwprofError, match=f"{missing}.* is missing"):
        run(*SMALL[:place], *SMALL[place + 2 :])


@pytest.fixture
def measured_run(tmp_path):
    """A run of 1b on an H100, whose products reached half of the datasheet's peak."""
    record = made_up_record(
        settings=RunSettings(model="1b", device="cuda", dtype="bf16", micro_batch=2, seq_len=1024),
        model=load_model("1b"),
        device=DeviceIdentity(name="H100", catalogue_id="h100-sxm5-80gb", note=""),
        ceilings=(made_up_ceiling("matmul.bf16", 494.7e12),),
        step=made_up_step(0.5, tokens_per_s=4096.0),
    )
    write_record(record, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_gives_the_job_and_the_calibration(measured_run):
    fixed = ["--devices", "1", "--global-batch", "2", "--micro-batch", "2", "--recompute", "none", "--zero", "0"]
    found = json.loads(run("--run", str(measured_run), *fixed, "--format", "json").stdout)
    plan = found["plans"][0]
    assert (plan["hardware"], plan["stack"]) == ("h100-sxm5-80gb", "torch")
    assert plan["step_s"] == pytest.approx(0.5, rel=0.01)  # one device: the run itself
    assert any("measured step 500 ms" in note for note in found["options"][0]["calibration"])


def test_another_device_is_not_calibrated_by_the_run(measured_run):
    fixed = ["--hardware", "a100-sxm", "--devices", "4", "--global-batch", "16"]
    found = json.loads(run("--run", str(measured_run), *fixed, "--format", "json").stdout)
    assert found["options"][0]["calibration"] == []


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(HwprofError, match=r"has no run\.json"):
        run("--run", str(tmp_path), "--devices", "4", "--global-batch", "16")


def test_a_choice_that_divides_nothing_is_a_reason():
    found = json.loads(run(*SMALL, "--pp", "3", "--format", "json").stdout)
    assert found["plans"] == []
    assert found["options"][0]["reason"] == "--pp 3 does not divide 4 devices (nearest: 2 and 4)"


def test_scaling_is_around_the_asked_number_of_devices():
    found = json.loads(run(*SMALL, "--scaling", "--format", "json").stdout)
    assert json.loads(run(*SMALL, "--format", "json").stdout)["scaling"] == []
    curves = {kind: [point for point in found["scaling"] if point["kind"] == kind] for kind in ("strong", "weak")}
    for kind, curve in curves.items():
        counts = [point["devices"] for point in curve]
        assert counts == sorted(counts)
        assert {1, 2, 4, 8} <= set(counts)
        assert curve[0]["efficiency"] == 1
        batches = {point["global_batch"] for point in curve}
        assert batches == ({16} if kind == "strong" else {4 * count for count in counts})
    own = {kind: next(point for point in curve if point["devices"] == 4) for kind, curve in curves.items()}
    assert own["strong"]["step_s"] == own["weak"]["step_s"]
    assert any("strong scaling: from" in line for line in run(*SMALL, "--scaling").stdout.splitlines())


def test_formats_offload_overlap_and_sequence_parallelism_are_choices():
    choices = [
        "--dtype",
        "bf16,fp8",
        "--offload",
        "none,optimizer",
        "--overlap",
        "on,off",
        "--sequence-parallel",
        "off",
    ]
    plans = json.loads(run(*SMALL, "--tp", "2", *choices, "--format", "json").stdout)["plans"]
    assert {plan["dtype"] for plan in plans} == {"bf16", "fp8"}
    assert {plan["offload"] for plan in plans} == {"none", "optimizer"}
    assert {plan["sequence_parallel"] for plan in plans} == {False}
    assert plans[0]["overlap"]
    slow = json.loads(run(*SMALL, "--tp", "2", "--overlap", "off", "--format", "json").stdout)["plans"]
    assert {plan["overlap"] for plan in slow} == {False}


def test_host_memory_bounds_offload_and_nothing_else():
    asked = (*SMALL, "--offload", "optimizer", "--format", "json")
    plans = json.loads(run(*asked, "--host-memory", "1TB").stdout)["plans"]
    needs = [plan["memory"]["host_bytes"] for plan in plans]
    assert 0 < max(needs) * plans[0]["devices"] <= 1e12
    nothing = json.loads(run(*asked, "--host-memory", "1MB").stdout)
    assert not nothing["plans"]
    assert "of a node's host memory, it has 1 MB" in nothing["options"][0]["reason"]
    with pytest.raises(HwprofError, match="bounds nothing without offload"):
        run(*SMALL, "--host-memory", "1TB")
    with pytest.raises(HwprofError, match="0 leaves no room for offload"):
        run(*asked, "--host-memory", "0GB")


def test_a_choice_that_is_written_twice_is_one_choice():
    asked = [*SMALL, "--format", "json", "--context-kind"]
    once, twice = (json.loads(run(*asked, kinds).stdout) for kinds in ("ring", "ring,ring"))
    assert twice["evaluated"] == once["evaluated"] > 0
    assert twice["plans"] == once["plans"]


def test_memory_is_asked_for_where_no_file_says_it():
    asked = ["--model", "125m", "--devices", "1", "--global-batch", "8", "--seq-len", "512", "--format", "json"]
    with pytest.raises(HwprofError, match="give --device-memory"):
        run(*asked, "--hardware", "cpu-xeon-8480plus")
    given = run(*asked, "--hardware", "cpu-xeon-8480plus,rtx-4090", "--device-memory", "64GB")
    options = json.loads(given.stdout)["options"]
    assert [(option["hardware"], option["fits"]) for option in options] == [
        ("cpu-xeon-8480plus", True),
        ("rtx-4090", True),
    ]
    capacities = {plan["hardware"]: plan["memory"]["capacity_bytes"] for plan in json.loads(given.stdout)["plans"]}
    assert capacities["cpu-xeon-8480plus"] == 64e9
    assert capacities["rtx-4090"] < 26e9  # its file says it


FLEET = ["--model", "8b", "--hardware", "h100-sxm", "--tokens", "1t", "--seq-len", "4k", "--max-devices", "256"]


def test_a_deadline_alone_is_answered_with_a_number_of_devices():
    result = run(*FLEET, "--deadline", "30 days", "--global-batch", "1,024", "--format", "json")
    answer = json.loads(result.stdout)["answer"]
    assert result.exit_code == 0
    assert answer["hardware"] == "h100-sxm5-80gb"
    assert answer["days"] <= 30
    assert answer["days_interval"][0] < answer["days"] < answer["days_interval"][1]
    assert answer["cost_interval_usd"][0] < answer["cost_usd"] < answer["cost_interval_usd"][1]
    assert answer["energy_wh"] == pytest.approx(answer["power_w"] * answer["days"] * 24)
    assert 0.9 < answer["goodput"] < 1
    assert answer["plan"]["devices"] == answer["devices"]
    assert answer["device_hours"] == pytest.approx(answer["devices"] * answer["days"] * 24)


def test_the_first_line_has_devices_days_and_money_and_the_assumed_batch_is_said():
    text = run(*FLEET, "--deadline", "30d").stdout
    first, second, third, *_ = lines = text.splitlines()
    assert all(word in first for word in (" x h100-sxm5-80gb: ", " days (80 %: ", " USD"))
    assert max(map(len, lines)) <= 80
    assert second.startswith("  llama-3.1-8b on 1 T tokens, ")
    assert all(word in third for word in (" to ", " USD", "MWh", "CO2", "goodput "))
    assert "--global-batch not given: 1,024 sequences, 4.19 M tokens a step" in text


def test_what_nothing_keeps_to_exits_with_1_and_says_by_how_much():
    result = run(*FLEET, "--deadline", "1d")
    assert result.exit_code == 1
    assert result.stdout.startswith("No: h100-sxm5-80gb: 256 take ")
    assert result.stdout.splitlines()[0].endswith(" too many")


def test_a_number_that_misses_keeps_its_days_and_the_nearest_that_works_is_named():
    asked = [*FLEET[:-2], "--devices", "64", "--deadline", "15d", "--global-batch", "1024"]
    result = run(*asked, "--format", "json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["answer"]) == (1, None)
    assert found["options"][0]["days"] > 15
    assert found["change"]["words"][0].startswith("--devices ")
    assert " days, the deadline leaves 15: " in found["options"][0]["reason"]


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(HwprofError, match=r"--model, --hardware, --devices are missing"):
        run("--tokens", "1T")


def test_adapters_have_no_usual_batch():
    with pytest.raises(HwprofError, match="--global-batch is missing") as refused:
        run("--model", "1b", "--hardware", "h100-sxm", "--devices", "8", "--lora-rank", "16")
    example = "hwprof plan --model 1b --hardware h100-sxm --devices 8 --lora-rank 16 --global-batch 128"
    assert refused.value.remedy == f"for example `{example}`"


def test_without_a_price_no_fleet_is_called_cheapest():
    text = run("--model", "7b", "--hardware", "h20", "--tokens", "1T", "--deadline", "30d").stdout
    assert "smallest, fewest device hours" in text
    assert "cheapest" not in text


def test_devices_without_a_batch_take_that_of_published_runs():
    """Of GPT-3 1.3B's million tokens, 512 sequences of 2,048 are the nearest power of two."""
    text = run("--model", "1.3b", "--hardware", "8xa100", "--tokens", "26B", "--seq-len", "2048").stdout
    assert text.startswith("8 x a100-sxm4-80gb: ")
    assert "--global-batch not given: 512 sequences, 1.05 M tokens a step" in text


def test_a_budget_alone_is_the_cheapest_that_is_done_in_a_usual_time():
    found = json.loads(run(*FLEET[:-2], "--budget", "1M", "--format", "json").stdout)
    answer, kinds = found["answer"], {(option["devices"]): option["days"] for option in found["options"]}
    assert answer["days"] <= 117
    assert answer["devices"] == min(kinds)
    assert any("a budget alone" in note for note in found["options"][0]["calibration"])


def test_each_other_machine_is_compared_with_the_first():
    lines = run(*SMALL[:2], "--hardware", "a100-sxm,h100-sxm", *SMALL[4:]).stdout.splitlines()
    assert lines[0].startswith("4 x h100-sxm5-80gb: ")
    assert lines[1].startswith("  llama-3.2-1b, ")
    assert any(line.startswith("  4 x a100-sxm4-80gb: ") and line.endswith(" times as long") for line in lines[2:4])


def test_a_site_caps_devices_whose_number_is_fixed():
    """Eight of 575 W beside the GPU and a PUE of 1.25: 10.75 kW leave each 500 W."""
    asked = [
        *SMALL[:4],
        "--devices",
        "8",
        "--global-batch",
        "16",
        "--seq-len",
        "1024",
        "--tokens",
        "1B",
        "--pue",
        "1.25",
    ]
    free = json.loads(run(*asked, "--format", "json").stdout)
    capped = json.loads(run(*asked, "--site-power", "10.75kW", "--format", "json").stdout)
    same = json.loads(run(*asked, "--power-cap", "500W", "--format", "json").stdout)
    assert capped["answer"]["power_w"] == pytest.approx(10750)
    assert capped["answer"]["days"] > free["answer"]["days"]
    assert capped["answer"]["days"] == pytest.approx(same["answer"]["days"])
    assert "h100-sxm5-80gb capped at 500 W" in capped["options"][0]["calibration"]
