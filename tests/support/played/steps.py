"""What may a GPU do in a step, and what are the figures of it? Each cause of its time as a step of its own.

Times are milliseconds of one step; a host runs ahead unless it waits. A call takes the host 1 us, and a kernel begins
1 us after it.
"""

from __future__ import annotations

from played.device import Event


def forward(s, phase, lengths_us=(1000.0,)):
    with phase("forward"):
        for number, length_us in enumerate(lengths_us):
            with s.module(f"layers.{number}.ffn.up"):
                s.kernel("gemm", length_us, sequence=number)


def _more_streams(s, count):
    """Streams beside the default one, the same in each step."""
    while len(s.gpus.all_streams) <= count:
        s.gpus.new_stream()
    return s.gpus.all_streams[1 : count + 1]


def compute(s, phase):
    forward(s, phase, (1000.0,) * 4)
    with phase("backward"):
        for number in range(4):
            s.kernel("gemm", 2000.0, sequence=number, backward=True)
    with phase("optimizer"):
        s.kernel("adam", 500.0, operator="aten::_foreach_add_")


def late_host(s, phase):
    with phase("forward"):
        for _ in range(2):
            s.kernel("gemm", 1000.0)
            s.gpus.synchronize()
            s.host(1000.0)


def input_pipeline(s, phase):
    with phase("data"):
        s.host(3000.0)
    forward(s, phase)
    s.gpus.synchronize()


def dependency(s, phase):
    """The second kernel waits for a signal of another process, 1.5 ms after the first is done."""
    stream, signal = s.gpus.stream(), Event(s.gpus)
    with phase("forward"):
        s.kernel("gemm", 1000.0)
        signal.time_ns = stream.free_ns + 1_500_000
        stream.wait_event(signal)
        s.kernel("gemm", 1000.0)


def launches(s, phase):
    """A hundred kernels of 2 us, for each of which the program needs 10 us."""
    with phase("forward"):
        for _ in range(100):
            s.kernel("add", 2.0)
            s.host(9.0)


def outside_of_phases(s, phase):
    forward(s, phase)
    s.gpus.synchronize()
    s.host(1000.0)


def long_call(s, phase):
    """The call for the second kernel takes 3 ms, as one that loads code or allocates does."""
    with phase("forward"):
        s.kernel("gemm", 1000.0)
        s.gpus.synchronize()
        s.kernel("gemm", 1000.0, call_us=3000.0, latency_us=3000.0)


def read_back(s, phase):
    """The loss is read: the host waits until it is there, and asks for the update then."""
    forward(s, phase)
    with phase("loss"):
        s.copy("DtoH (Device -> Pageable)", 500.0, 4, wait=True)
    with phase("optimizer"):
        s.kernel("adam", 500.0, operator="aten::_foreach_add_")


def autograd_thread(s, phase):
    """Backward is asked for by a thread of its own, one operator after the other."""
    forward(s, phase, (1000.0, 500.0))
    with phase("backward"), s.thread(2):
        s.kernel("gemm", 1000.0, sequence=1, backward=True)
        s.kernel("gemm", 2000.0, sequence=0, backward=True)


def two_groups_at_once(s, phase):
    """Reductions of two groups, each 1 ms on a stream of its own, the second half a millisecond after the first."""
    first, second = _more_streams(s, 2)
    with phase("backward"):
        s.kernel("gemm", 1000.0)
        s.collective("allreduce", 1000.0, 1_000_000, stream=first)
        s.kernel("gemm", 500.0)
        s.collective("allreduce", 1000.0, 1_000_000, stream=second)
    with phase("optimizer"):
        for stream in (first, second):
            s.gpus.stream().wait_stream(stream)
        s.kernel("adam", 500.0)


def norm_of_gradients(s, phase):
    """Clipping sums over all ranks; the update waits for it, and nothing runs beside."""
    (talks,) = _more_streams(s, 1)
    with phase("clip"):
        s.kernel("norm", 500.0)
        s.collective("allreduce", 500.0, 1, stream=talks)
    with phase("optimizer"):
        s.gpus.stream().wait_stream(talks)
        s.kernel("adam", 1000.0)


def message_between_stages(s, phase):
    """A stage waits for its input, which another has late: the message stands open for 2 ms."""
    (talks,) = _more_streams(s, 1)
    with phase("pipeline"):
        s.collective("recv", 2000.0, 1000, stream=talks)
        s.gpus.stream().wait_stream(talks)
    forward(s, phase)


def _gathered(s, phase, *, ahead):
    (talks,) = _more_streams(s, 1)
    with phase("forward"):
        for number in range(3):
            if number == 0 or not ahead:
                s.collective("_allgather_base", 800.0, 1_000_000, stream=talks)
            s.gpus.stream().wait_stream(talks)
            if ahead and number < 2:
                s.collective("_allgather_base", 800.0, 1_000_000, stream=talks)
            with s.module(f"layers.{number}.ffn.up"):
                s.kernel("gemm", 1000.0)


def gathered_when_needed(s, phase):
    """Weights of a layer are gathered once the one before is done."""
    _gathered(s, phase, ahead=False)


def gathered_ahead(s, phase):
    """Weights of a layer are gathered while the one before computes, but for the first."""
    _gathered(s, phase, ahead=True)


def missing_launches(s, phase):
    """Of every second kernel the profiler lost the call; they run all the same."""
    s.lost = lambda work: work.correlation % 2 == 0
    forward(s, phase, (1000.0,) * 8)


def unknown_gap(s, phase):
    """The device waits 1 ms for the host before a kernel whose call the profiler lost."""
    s.lost = lambda work: work.name == "lost"
    with phase("forward"):
        s.kernel("gemm", 1000.0)
        s.gpus.synchronize()
        s.host(1000.0)
        s.kernel("lost", 1000.0)


def _reduced(s, phase, before_us, talk_us, beside_us):
    """Gradients, a reduction of them, gradients beside it, and an update that waits for it."""
    (talks,) = _more_streams(s, 1)
    with phase("backward"):
        s.kernel("gemm", before_us)
        s.collective("allreduce", talk_us, 1_000_000, stream=talks)
        if beside_us:
            s.kernel("gemm", beside_us)
    with phase("optimizer"):
        s.gpus.stream().wait_stream(talks)
        s.kernel("adam", 500.0)


def exposed_communication(s, phase):
    _reduced(s, phase, 2000.0, 1500.0, 0.0)


def hidden_communication(s, phase):
    _reduced(s, phase, 1000.0, 800.0, 2000.0)


def half_hidden_communication(s, phase):
    _reduced(s, phase, 1000.0, 1500.0, 500.0)


def exposed_copy(s, phase):
    with phase("host_to_device"):
        s.copy("HtoD (Pageable -> Device)", 2000.0, 10**8, wait=True)
    forward(s, phase)
    s.gpus.synchronize()


def hidden_copy(s, phase):
    (side,) = _more_streams(s, 1)
    with phase("host_to_device"):
        side.wait_stream(s.gpus.stream())
        s.copy("HtoD (Pinned -> Device)", 800.0, 10**8, stream=side)
    forward(s, phase, (2000.0,))


def copy_within_the_device(s, phase):
    with phase("forward"):
        s.copy("DtoD (Device -> Device)", 1000.0, 10**9)
        s.kernel("gemm", 1000.0)


def throttled(s, phase):
    s.gpus.slower = 1.25
    compute(s, phase)


def graph(s, phase):
    with phase("forward"):
        s.graph([500.0] * 8)


def two_streams(s, phase):
    (side,) = _more_streams(s, 1)
    main = s.gpus.stream()
    with phase("forward"):
        side.wait_stream(main)
        s.kernel("gemm", 1000.0, stream=side)
        s.kernel("gemm", 1000.0)
        main.wait_stream(side)


def two_micro_batches(s, phase):
    for _ in range(2):
        forward(s, phase)
        with phase("backward"):
            s.kernel("gemm", 2000.0, sequence=0, backward=True)


TRUTH = {
    compute: {"step": 12.5, "compute": 12.5},
    late_host: {"step": 4.0, "compute": 2.0, "late_host": 2.0},
    input_pipeline: {"step": 4.0, "compute": 1.0, "idle_input": 3.0},
    dependency: {"step": 3.5, "compute": 2.0, "dependency": 1.5},
    launches: {"step": 1.0, "compute": 0.2, "late_host": 0.7, "other": 0.1},
    outside_of_phases: {"step": 2.0, "compute": 1.0, "residue": 1.0},
    exposed_communication: {"step": 4.0, "compute": 2.5, "communication": 1.5, "exposed_communication": 1.5},
    hidden_communication: {"step": 3.5, "compute": 3.5, "communication": 0.8},
    half_hidden_communication: {"step": 3.0, "compute": 2.0, "communication": 1.5, "exposed_communication": 1.0},
    exposed_copy: {"step": 3.0, "compute": 1.0, "exposed_copy": 2.0},
    hidden_copy: {"step": 2.0, "compute": 2.0},
    copy_within_the_device: {"step": 2.0, "compute": 2.0},
    throttled: {"step": 15.625, "compute": 15.625},
    graph: {"step": 4.0, "compute": 4.0},
    two_streams: {"step": 1.0, "compute": 1.0},
    two_micro_batches: {"step": 6.0, "compute": 6.0},
    long_call: {"step": 5.0, "compute": 2.0, "other": 3.0},
    read_back: {"step": 2.0, "compute": 1.5, "exposed_copy": 0.5},
    autograd_thread: {"step": 4.5, "compute": 4.5},
    two_groups_at_once: {"step": 3.0, "compute": 2.0, "communication": 1.5, "exposed_communication": 1.0},
    norm_of_gradients: {"step": 2.0, "compute": 1.5, "communication": 0.5, "exposed_communication": 0.5},
    message_between_stages: {"step": 3.0, "compute": 1.0, "communication": 2.0, "exposed_communication": 2.0},
    gathered_when_needed: {"step": 5.4, "compute": 3.0, "communication": 2.4, "exposed_communication": 2.4},
    gathered_ahead: {"step": 3.8, "compute": 3.0, "communication": 2.4, "exposed_communication": 0.8},
    missing_launches: {"step": 8.0, "compute": 8.0},
    unknown_gap: {"step": 3.0, "compute": 2.0, "other": 1.0},
}
