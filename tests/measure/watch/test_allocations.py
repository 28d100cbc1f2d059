"""Is the timeline of allocated bytes that of its device, with its peaks?"""

from hwprof.measure.watch.allocations import thinned


def test_a_long_memory_timeline_keeps_the_peak_of_each_stretch():
    timeline = (*((float(at), float(at % 7)) for at in range(1001)), (1001.0, 99.0))
    kept = thinned(timeline)
    assert len(kept) == 501  # stretches of two points
    assert max(kept, key=lambda point: point[1]) == (1001.0, 99.0)
    assert kept[:2] == ((1.0, 1.0), (3.0, 3.0))
