"""What does a machine's own probe change? Times of calls and collectives that were measured, worked out by hand."""

import json

import pytest

from hwprof.emulate.answer import emulation
from hwprof.emulate.here import measured_machine
from hwprof.emulate.prices import prices_of
from hwprof.errors import InputError
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.specs.record.saved_calls import call_name

CPU = "Some Processor"


def _calibration(path, ceilings, *, device=CPU, **more):
    def ceiling(name, value):
        unit = "s" if name.startswith(("latency", "call")) else "flop_per_s" if "matmul" in name else "byte_per_s"
        kind = {"s": "latency", "flop_per_s": "compute"}.get(unit, "memory")
        level = {"level": "dram"} if name == "memory.dram" else {}
        return {
            "name": name,
            "kind": kind,
            "value": value,
            "unit": unit,
            "origin": "measured",
            "source": "here",
        } | level

    content = {
        "schema_version": 1,
        "hwprof_version": "0",
        "status": "complete",
        "created": "2026-01-01",
        "device": device,
        "torch_version": "2",
        "driver": "",
        "quick": True,
        "ceilings": [ceiling(name, value) for name, value in ceilings.items()],
        "environment": {"cpu.model": CPU, "memory.total": "8 GB", "torch.threads": "1", "cpu.cores_logical": "2"},
    }
    path.write_text(json.dumps(content | more), encoding="utf-8")
    return path


RATES = {"matmul.fp32": 1e11, "memory.dram": 2e10, "latency.dispatch": 1e-6}


def _curve(collective, points, ranks=2):
    rows = [
        {
            "size_bytes": size,
            "samples_s": [seconds],
            "time_s": seconds,
            "algorithm_byte_per_s": size / seconds,
            "bus_byte_per_s": size / seconds,
            "spread": 0,
        }
        for size, seconds in points
    ]
    fit = None
    return {
        "collective": collective,
        "scope": "node",
        "backend": "gloo",
        "ranks": ranks,
        "nodes": 1,
        "points": rows,
        "fit": fit,
        "stable": True,
    }


def _prices(recording, devices, *files):
    machine, table, here, _ = measured_machine(None, devices, files)
    return prices_of(recording, machine, parameters_for(table, machine, stack_named("fsdp"))[0], here), machine


def test_a_call_that_was_timed_takes_what_it_took(emulated, tmp_path):
    place = next(place for place in emulated.count(0) if emulated.calls[place].name == "aten::mm")
    name = call_name(emulated.calls[place].call)
    prices, _ = _prices(emulated, 2, _calibration(tmp_path / "cpu.json", RATES | {name: 0.25}))
    assert prices.device_s[place] == 0.25
    assert prices.host_s[place] == 0.0  # what it takes the host is in it


def test_a_call_that_was_not_timed_goes_by_the_rates(emulated, tmp_path):
    prices, machine = _prices(emulated, 2, _calibration(tmp_path / "cpu.json", RATES))
    assert machine.peak_flop_per_s("fp32") == 1e11
    assert machine.capacity_bytes == 8e9
    place = next(place for place in emulated.count(0) if emulated.calls[place].name == "aten::gelu")
    call = emulated.calls[place].call
    assert prices.device_s[place] == pytest.approx(2 * call.results[0].size_bytes / 2e10)


def test_more_ranks_than_cores_share_them(emulated, tmp_path):
    file = _calibration(tmp_path / "cpu.json", RATES)
    two, eight = (_prices(emulated, devices, file)[0] for devices in (2, 8))
    assert eight.device_s.sum() == pytest.approx(two.device_s.sum())  # the recording says how many ranks there are
    one_core = {"cpu.model": CPU, "memory.total": "8 GB", "torch.threads": "1", "cpu.cores_logical": "1"}
    crowded = _calibration(tmp_path / "one.json", RATES, environment=one_core)
    assert _prices(emulated, 2, crowded)[0].device_s.sum() == pytest.approx(2 * two.device_s.sum())


def test_a_collective_that_was_measured_takes_what_it_took(emulated, tmp_path):
    place = next(place for place in emulated.count(1) if emulated.collectives[place].op == "all_gather")
    size = emulated.collectives[place].size_bytes
    curve = _curve("all_gather", [(size // 2, 0.125), (size * 3 // 2, 0.375)])
    links = _calibration(tmp_path / "links.json", {}, collectives=[curve])
    prices, _ = _prices(emulated, 2, _calibration(tmp_path / "cpu.json", RATES), links)
    assert prices.collective_s[place] == pytest.approx(0.25)


def test_the_script_s_own_code_shares_a_core_too(emulated, tmp_path):
    one_core = {"cpu.model": CPU, "memory.total": "8 GB", "torch.threads": "1", "cpu.cores_logical": "1"}
    crowded = _calibration(tmp_path / "one.json", RATES, environment=one_core)
    alone = _prices(emulated, 2, _calibration(tmp_path / "cpu.json", RATES))[0]
    assert _prices(emulated, 2, crowded)[0].script_share == pytest.approx(2 * alone.script_share)


def _slowdown(ranks, **more):
    times = {"work_alone_s": 2, "work_together_s": 3, "beside_alone_s": 4, "beside_together_s": 5}
    return {"ranks": ranks, "work": "w", "beside": "b", **times, **more}


@pytest.mark.parametrize(("devices", "cores", "cost"), [(2, 2, 0.25), (2, 4, 0.0), (4, 2, 2 * 0.75)])
def test_hidden_traffic_takes_of_busy_cores_what_it_computes(devices, cores, cost, tmp_path):
    slow = [_slowdown(2, beside_cpu_s=1.0), _slowdown(4, beside_cpu_s=3.0)]
    environment = {"cpu.model": CPU, "memory.total": "8 GB", "torch.threads": "1", "cpu.cores_logical": str(cores)}
    file = _calibration(tmp_path / "cpu.json", RATES, environment=environment, slowdowns=slow)
    here = measured_machine(None, devices, [file])[2]
    assert here.contention(devices) == pytest.approx(cost)


def test_hidden_traffic_whose_processor_time_nobody_read_costs_what_work_beside_it_lost(tmp_path):
    file = _calibration(tmp_path / "cpu.json", RATES, slowdowns=[_slowdown(2)])
    assert measured_machine(None, 2, [file])[2].contention(2) == 0.5


def test_the_script_s_own_code_takes_its_time(emulated, tmp_path):
    machine, table, here, notes = measured_machine(None, 2, [_calibration(tmp_path / "cpu.json", RATES)])
    found = emulation([emulated], machine, table, notes, here)
    assert found.step_s > sum(emulated.host_s) / emulated.dispatch_s * 1e-6  # that host's dispatch takes 1 us
    assert found.breakdown_s["fixed"] == 0


def test_files_of_two_devices_are_refused(tmp_path):
    files = [_calibration(tmp_path / f"{name}.json", RATES, device=name) for name in ("one", "two")]
    with pytest.raises(InputError, match="of one and of two"):
        measured_machine(None, 2, files)


def test_an_accelerator_needs_its_name(tmp_path):
    with pytest.raises(InputError, match="accelerator"):
        measured_machine(None, 2, [_calibration(tmp_path / "gpu.json", RATES, device="NVIDIA H100")])


def test_a_calibration_without_rates_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rate of fp32 products"):
        measured_machine(None, 2, [_calibration(tmp_path / "links.json", {"latency.dispatch": 1e-6})])
