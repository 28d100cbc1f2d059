"""What stands around an event? Against a direct search, and by hand."""

from __future__ import annotations

import random

import kineto
import numpy as np
import pytest
from made_up_spans import made_up_span, made_up_trace

from hwprof.spans import nesting
from hwprof.spans.nesting import at, backward_nodes, named, nearest, node_labels, parents
from hwprof.spans.read.file import read_trace


def _nested(file: kineto.KinetoFile, rng: random.Random, start: int, end: int, depth: int, thread: int) -> None:
    file.complete("cpu_op", f"op{depth}", 1, thread, start, end - start)
    while depth < 5 and end - start > 40:
        start += rng.randint(0, 10)
        stop = min(start + rng.randint(10, 60), end)
        if stop <= start:
            return
        _nested(file, rng, start, stop, depth + 1, thread)
        start = stop


def test_parents_equal_the_smallest_span_around(written):
    file, rng = kineto.KinetoFile(), random.Random(3)
    for thread in (1, 2):
        for start in range(0, 3000, 500):
            _nested(file, rng, 10**6 + start, 10**6 + start + 400, 0, thread)
    trace = read_trace(written(file))
    host, parent = trace.host, parents(trace)
    for place in range(len(host)):
        around = [
            other
            for other in range(place)
            if host.thread[other] == host.thread[place]
            and host.start_ns[other] <= host.start_ns[place]
            and host.end_ns[other] >= host.end_ns[place]
        ]
        expected = max(around, default=-1, key=lambda other: (-(host.end_ns[other] - host.start_ns[other]), other))
        assert parent[place] == expected


@pytest.mark.parametrize("portion", [1, 2, 7, 64])
def test_the_nearest_event_is_found_across_portions(monkeypatch: pytest.MonkeyPatch, portion: int):
    rng = random.Random(portion)
    parent = [-1, *(rng.randint(max(-1, place - 9), place - 1) for place in range(1, 200))]
    marked = [rng.random() < 0.2 for _ in parent]
    expected = []
    for place in range(len(parent)):
        while place >= 0 and not marked[place]:
            place = parent[place]  # noqa: PLW2901 (the walk up)
        expected.append(place)
    monkeypatch.setattr(nesting, "_AT_A_TIME", portion)
    column = np.array(parent, dtype=np.int32)
    found = nearest(column, np.array(marked))
    assert found.tolist() == expected
    assert at(column, found).tolist() == [parent[place] if place >= 0 else -1 for place in expected]


def _around(*spans):
    """The name of the event around each, by name."""
    trace = made_up_trace(spans)
    names = [trace.names[name] for name in trace.host.name]
    return {name: names[place] if place >= 0 else "" for name, place in zip(names, parents(trace), strict=True)}


def test_call_into_the_runtime_encloses_nothing_though_it_seems_to():
    launch = made_up_span("cudaLaunchKernel", 1, 4, category="cuda_runtime")
    assert _around(made_up_span("aten::mm", 0, 5), launch, made_up_span("aten::add", 3, 6))["aten::add"] == "aten::mm"


@pytest.mark.parametrize(
    ("annotation", "around"), [("gloo:send", ""), ("gloo:recv", ""), ("gloo:all_reduce", "gloo:all_reduce")]
)
def test_message_does_not_enclose_what_its_thread_does_meanwhile_but_a_collective_does(annotation, around):
    under_way = made_up_span(annotation, 0, 9, category="user_annotation")
    assert _around(under_way, made_up_span("aten::mm", 2, 8))["aten::mm"] == around


def test_backward_node_has_the_label_of_the_last_forward_operator_with_its_number_else_of_the_node_before_it():
    """Forward 7, 7, 8; backward 8, 7, then a gradient is accumulated; another thread knows nothing."""
    forward = [made_up_span(f"forward {at}", at, at + 1, sequence=number) for at, number in enumerate((7, 7, 8))]
    node = "autograd::engine::evaluate_function: "
    backward = [
        made_up_span(f"{node}{at}", at, at + 1, sequence=number, in_backward=number >= 0)
        for at, number in ((10, 8), (11, 7), (12, -1))
    ]
    trace = made_up_trace([*forward, *backward, made_up_span(f"{node}alone", 13, 14, thread=2)])
    label = np.array([1, 2, 3, 0, 0, 0, 0], dtype=np.int32)
    nodes = np.flatnonzero(backward_nodes(trace))
    assert nodes.tolist() == [3, 4, 5, 6]
    forward_places = np.flatnonzero(named(trace, lambda name: name.startswith("forward")))
    assert node_labels(trace.host, label, forward_places, nodes).tolist() == [3, 2, 2, 0]
    assert node_labels(trace.host, label, forward_places[:0], nodes).tolist() == [0, 0, 0, 0]
