"""Pipelines to simulate, and a slow simulator of its own to hold the engine against."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from itertools import pairwise

import pytest
from made_up_pipelines import made_up_chunk, made_up_pipeline, made_up_stage


@pytest.fixture(scope="session")
def uniform():
    """A function that makes a pipeline whose chunks all cost the same."""
    return _uniform


@pytest.fixture(scope="session")
def varied():
    """A function that makes a pipeline whose chunks all differ."""
    return _varied


@pytest.fixture(scope="session")
def event_driven():
    """A function that gives the start of every item, [stages][items], in another way than the engine's."""
    return _event_driven


def _uniform(schedule, *, stages, micro_batches, chunks=1, overlap_send=True, stage=None, **costs):
    alike = made_up_stage(*[made_up_chunk(**costs)] * chunks, **stage or {})
    return made_up_pipeline(
        *[alike] * stages,
        micro_batches=micro_batches,
        schedule=schedule,
        overlap_send=overlap_send,
    )


def _varied(seed, schedule, *, stages, micro_batches, chunks, overlap_send):
    draw = random.Random(seed).random

    def chunk():
        return made_up_chunk(
            forward_s=0.5 + draw(),
            backward_input_s=0.5 + draw(),
            backward_weight_s=0.5 + draw(),
            send_s=draw() / 2,
            kept_bytes=1 + draw(),
            forward_communication_s=draw() / 2,
            backward_communication_s=draw() / 2,
        )

    return made_up_pipeline(
        *(
            made_up_stage(*(chunk() for _ in range(chunks)), before_s=draw(), reduce_s=draw(), optimizer_s=draw())
            for _ in range(stages)
        ),
        micro_batches=micro_batches,
        schedule=schedule,
        overlap_send=overlap_send,
    )


def _event_driven(work):
    order = work.graph.order
    following, preceding = {}, {}
    for route in order.routes:
        for earlier, later in pairwise(route):
            following[earlier], preceding[later] = later, earlier
    inbox = defaultdict(set)
    position = [0] * order.stages
    starts = [[] for _ in range(order.stages)]
    queue = [(stage.before_s, 0, number, "free", None) for number, stage in enumerate(work.stages)]
    running = [True] * order.stages
    serial = 1
    heapq.heapify(queue)
    while queue:
        now, _, stage, what, detail = heapq.heappop(queue)
        if what == "free":
            running[stage] = False
        else:
            inbox[stage].add(detail)
        if running[stage] or position[stage] == len(order.items[stage]):
            continue
        item = order.items[stage][position[stage]]
        if not all(_ready(stage, one, inbox[stage], following, preceding) for one in item):
            continue
        starts[stage].append(now)
        position[stage] += 1
        running[stage] = True
        end, hold = now + _duration(work, stage, item), 0.0
        for one in item:
            for target, travel in _receivers(work, stage, one, following, preceding):
                lag = travel if target[0] != stage else 0.0
                hold = max(hold, 0.0 if work.overlap_send else lag)
                direction = "forward" if one.kind == "forward" else "backward"
                serial += 1
                heapq.heappush(
                    queue, (end + lag, serial, target[0], "message", (direction, target[1], one.micro_batch))
                )
        serial += 1
        heapq.heappush(queue, (end + hold, serial, stage, "free", None))
    assert position == [len(items) for items in order.items]
    return starts


def _ready(stage, one, inbox, following, preceding):
    if one.kind == "backward_weight":
        return True  # the test of orders says that its input-gradient pass is before it in the list
    source = preceding if one.kind == "forward" else following
    direction = "forward" if one.kind == "forward" else "backward"
    return (stage, one.chunk) not in source or (direction, one.chunk, one.micro_batch) in inbox


def _receivers(work, stage, one, following, preceding):
    place = (stage, one.chunk)
    if one.kind == "forward" and place in following:
        yield following[place], work.stages[stage].chunks[one.chunk].send_s
    if one.kind in {"backward", "backward_input"} and place in preceding:
        before = preceding[place]
        yield before, work.stages[before[0]].chunks[before[1]].send_s


def _duration(work, stage, item):
    whole, communication = 0.0, 0.0
    for one in item:
        chunk = work.stages[stage].chunks[one.chunk]
        whole += {
            "forward": chunk.forward_s,
            "backward": chunk.backward_input_s + chunk.backward_weight_s,
            "backward_input": chunk.backward_input_s,
            "backward_weight": chunk.backward_weight_s,
        }[one.kind]
        communication += chunk.forward_communication_s if one.kind == "forward" else chunk.backward_communication_s
    return whole if len(item) == 1 else max(communication, whole - communication)


SIZES = (
    ("gpipe", 4, 1, 6),
    ("gpipe", 1, 1, 3),
    ("1f1b", 4, 1, 10),
    ("1f1b", 5, 1, 3),
    ("1f1b", 1, 1, 4),
    ("interleaved", 4, 2, 8),
    ("interleaved", 3, 3, 7),
    ("interleaved", 4, 3, 2),
    ("interleaved", 2, 1, 4),
    ("zb-h1", 4, 1, 9),
    ("zb-h1", 5, 1, 3),
    ("zb-h1", 1, 1, 2),
    ("zb-v", 4, 2, 10),
    ("zb-v", 4, 2, 3),
    ("zb-v", 1, 2, 2),
    ("dualpipe", 4, 2, 8),
    ("dualpipe", 6, 2, 14),
    ("dualpipe", 2, 2, 4),
)


@pytest.fixture(params=SIZES, ids=lambda size: "{}-p{}-v{}-m{}".format(*size))
def sizes(request):
    """A schedule with numbers of stages, chunks and micro-batches."""
    schedule, stages, chunks, micro_batches = request.param
    return {"schedule": schedule, "stages": stages, "chunks": chunks, "micro_batches": micro_batches}


@pytest.fixture(scope="session")
def placed():
    """``placed(model, devices, hardware=..., stack=..., layout={...}, **job)``: a job, its machine, its software."""
    return _placed


def _placed(model, devices, *, hardware="h100-sxm", stack="megatron-core", layout=None, **job):
    from hwprof.predict.machine import machine_of
    from hwprof.predict.stacks import stack_named
    from hwprof.specs.catalogue.lookup import load_cluster, load_model
    from hwprof.specs.job.parallel import ParallelLayout
    from hwprof.specs.job.step import TrainingJob

    shape = ParallelLayout(**{"zero_stage": 1} | (layout or {}))
    assert shape.devices == devices
    values = {"seq_len": 2048, "global_batch": 8 * shape.data_parallel * shape.pipeline_parallel} | job
    made = TrainingJob(model=load_model(model) if isinstance(model, str) else model, layout=shape, **values)
    return made, machine_of(load_cluster(f"{devices}x{hardware}")), stack_named(stack)


@pytest.fixture(scope="session")
def closed_form_s():
    """Step time of a placed job in closed form, with its parts."""
    return _closed_form


def _closed_form(job, machine, stack):
    from hwprof.predict.kernels.op_time import micro_batch_times
    from hwprof.predict.parameters import parameters_for
    from hwprof.simulate.jobs import jobs_of, work_of
    from hwprof.simulate.whole_step import step_times
    from hwprof.specs.catalogue.simulator import simulator_parameters

    each = [(job, machine, stack)]
    parameters, _ = parameters_for(simulator_parameters(), machine, stack)
    found = step_times(jobs_of(each), micro_batch_times(work_of(each, [()])[0], parameters), parameters)
    return float(found.step_s[0]), {name: float(values[0]) for name, values in found.parts.items()}
