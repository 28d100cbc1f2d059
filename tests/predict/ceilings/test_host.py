"""What does the host add to each phase, by its probes?"""

import pytest
from made_up_record import made_up_ceiling

from hwprof.predict.ceilings.host import host_times
from hwprof.predict.ceilings.roofs import best_ceilings, roofs_of


def times(**values):
    return host_times(best_ceilings([made_up_ceiling(f"latency.host.{name}", value) for name, value in values.items()]))


def test_backward_is_both_passes_without_the_forward_one():
    found = times(forward=1.0, forward_backward=4.0, clip=0.5, optimizer=2.0)
    assert found.of_step(micro_batches=1, stages=1) == {"forward": 1.0, "backward": 3.0, "clip": 0.5, "optimizer": 2.0}


def test_passes_are_repeated_for_each_micro_batch_and_stages_share_all():
    found = times(forward=1.0, forward_backward=4.0, optimizer=2.0)
    assert found.of_step(micro_batches=6, stages=2) == {"forward": 3.0, "backward": 9.0, "clip": 0.0, "optimizer": 1.0}


@pytest.mark.parametrize("values", [{}, {"forward": 1.0}, {"forward_backward": 1.0, "optimizer": 1.0}])
def test_without_both_passes_nothing_is_known(values):
    assert times(**values) is None


def test_dispatch_is_taken_off_kernels_only_where_the_host_was_probed_and_is_the_device():
    kernel = made_up_ceiling(
        "rope.halves.fp32.1x2x3x4x5.forward", conditions={"call_s": 10.0, "counted_bytes": 1.0, "operators": 2}
    )
    latencies = [made_up_ceiling(f"latency.{name}", 1.0) for name in ("dispatch", "launch")]
    host = [made_up_ceiling(f"latency.host.{name}", 1.0) for name in ("forward", "forward_backward")]

    def call_s(ceilings, device):
        (points,) = roofs_of([kernel, *ceilings], "fp32", device=device).kernels.points.values()
        return points["1x2x3x4x5"].seconds

    assert call_s([*latencies, *host], "cpu") == 8.0
    assert call_s(latencies, "cpu") == 10.0
    assert call_s([*latencies, *host], "cuda") == 10.0
