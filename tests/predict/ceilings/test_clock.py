"""Are ceilings of products held at the clock of the step, and is it said what held it down?"""

from made_up_record import made_up_ceiling

from hwprof.predict.ceilings.clock import at_clock, clock_notes

PRODUCTS = made_up_ceiling("matmul.bf16", 700e12).changed(kind="compute", conditions={"sm_clock_hz": 1.75e9})
MEMORY = made_up_ceiling("memory.dram", 4e12).changed(kind="memory", conditions={"sm_clock_hz": 1.75e9})
SILENT = made_up_ceiling("matmul.fp16", 650e12).changed(kind="compute", conditions={})


def test_products_are_as_fast_as_the_clock_and_nothing_else_is():
    found = at_clock([PRODUCTS, MEMORY, SILENT], 1.25e9)
    assert [one.value for one in found] == [500e12, 4e12, 650e12]


def test_without_a_clock_of_the_step_ceilings_stay_as_measured():
    assert at_clock([PRODUCTS, MEMORY], None) == (PRODUCTS, MEMORY)


def test_a_throttled_step_says_by_what_for_how_long_and_at_which_clock():
    counters = {
        "gpu.sm_clock": 1.4e9,
        "gpu.throttle.power_cap": 0.8,
        "gpu.throttle.thermal_hardware": 0.0,
        "gpu.power": 700.0,
    }
    held, clock = clock_notes([PRODUCTS], counters, "bf16")
    assert held == "the GPU was held down by its power cap limit in 80 % of the samples taken beside the timed steps"
    assert clock.startswith("the step ran at 1.4 GHz, and the ceiling of bf16 products was measured at 1.75 GHz: ")
    assert clock.endswith("at its own clock, 80 % of it")


def test_a_step_at_the_ceilings_clock_has_nothing_to_say():
    assert clock_notes([PRODUCTS], {"gpu.sm_clock": 1.74e9, "gpu.throttle.power_cap": 0.0}, "bf16") == ()
