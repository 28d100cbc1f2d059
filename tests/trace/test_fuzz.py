"""Damaged traces, configurations and specs by the thousand: an error of ours or a result, never another exception.

Every case is drawn from a seed, so that a failure can be seen again. Time is bounded for each case and for all.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kineto
import pytest

from hwprof.errors import HwprofError
from hwprof.specs.catalogue.lookup import load_cluster, load_device, load_link, load_model
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

TRACE_CASES, EVENT_CASES, CONFIG_CASES, SPEC_CASES = 500, 350, 700, 500
SLOWEST_S = 2.0
"""No case may take so much of the processor; a usual one takes 5 ms. Other work on the machine does not count."""
_ODD = [None, True, -1, 0, 1e300, float("nan"), "", "x" * 50, [], {}, [[]], 2**70, "NaN", "\ud800", -(2**63), [[[1]]]]
_ROOT = Path(__file__).resolve().parents[2]


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled, or the end lost."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(max(len(broken), 1))
        kind = rng.randrange(5)
        if kind == 0 and broken:
            broken[place % len(broken)] = rng.randrange(256)
        elif kind == 1:
            del broken[place : place + rng.randint(1, 200)]
        elif kind == 2:
            broken[place:place] = broken[place : place + rng.randint(1, 200)]
        elif kind == 3:
            broken[place:place] = rng.choice([b"{", b"}", b"[", b"]", b'"', b",", b"\\", b"\xff", b"NaN", b"[" * 2000])
        elif rng.random() < 0.3:
            del broken[place:]
    return bytes(broken)


def _tolerates(work: Callable[[], object]) -> bool:
    """Whether the work gave a result; an error of ours will do. Any other exception fails the test."""
    begun_s = time.process_time()
    try:
        work()
        result = True
    except HwprofError:
        result = False
    assert time.process_time() - begun_s < SLOWEST_S
    return result


def _check(devices: tuple[TraceDevice, ...]) -> None:
    """Whatever is said of a damaged trace adds up, and can be printed."""
    for device in devices:
        times = device.breakdown
        parts_s = times.compute_s + times.exposed_communication_s + times.exposed_copy_s + times.idle_s
        assert parts_s == pytest.approx(times.span_s, rel=1e-6, abs=1e-9)
        json.loads(device.model_dump_json())


def test_traces_with_damaged_bytes(tmp_path: Path):
    rng = random.Random(11)
    loop = kineto.Loop(steps=1, layers=1, memory=True)
    plain = kineto.simulate(loop)[0].text().encode()
    packed = gzip.compress(plain, 1)
    path, good = tmp_path / "t.json", 0
    for case in range(TRACE_CASES):
        path.write_bytes(_damaged(packed if case % 7 == 0 else plain, rng))
        good += _tolerates(lambda: _check(analyse([path]).devices))
    assert good > TRACE_CASES / 3


def _odd_events(events: list[dict], rng: random.Random) -> list[object]:
    """Some fields given odd values, some left out, some events that are none."""
    changed: list[object] = []
    for event in events:
        copy = json.loads(json.dumps(event))
        if rng.random() < 0.2:
            target = copy.get("args") if rng.random() < 0.6 and copy.get("args") else copy
            key = rng.choice(list(target))
            if rng.random() < 0.2:
                del target[key]
            else:
                target[key] = rng.choice(_ODD)
        changed.append(rng.choice(_ODD) if rng.random() < 0.01 else copy)
    rng.shuffle(changed)
    return changed


def test_traces_with_odd_values(tmp_path: Path):
    rng = random.Random(12)
    events = json.loads(kineto.simulate(kineto.Loop(steps=1, layers=1, memory=True))[0].text())["traceEvents"]
    path, good = tmp_path / "t.json", 0
    for _ in range(EVENT_CASES):
        trace = {"traceEvents": _odd_events(events, rng), "distributedInfo": rng.choice(_ODD)}
        path.write_text(json.dumps(trace | {"deviceProperties": rng.choice(_ODD)}))
        good += _tolerates(lambda: _check(analyse([path]).devices))
    assert good > EVENT_CASES / 2


_DECODER = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 64, "hidden_act": "silu",
}  # fmt: skip
_CONFIGS: dict[str, dict[str, object]] = {
    "llama": _DECODER,
    "qwen2": _DECODER,
    "gemma2": _DECODER | {"head_dim": 16, "hidden_act": "gelu_pytorch_tanh"},
    "mixtral": _DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 100},
    "t5": {"d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 128, "d_kv": 16, "vocab_size": 100},
    "vit": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
        "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
    },
}  # fmt: skip
"""Each loads as it is, so that a case is refused for what was changed in it."""


def _odd_config(rng: random.Random) -> dict[str, object]:
    name = rng.choice(list(_CONFIGS))
    config = {"model_type": name} | _CONFIGS[name]
    for key in rng.sample(list(config), rng.randint(0, 3)):
        config[key] = rng.choice(_ODD)
    return config


def test_configurations(tmp_path: Path):
    rng = random.Random(13)
    path, good = tmp_path / "config.json", 0
    for case in range(CONFIG_CASES):
        text = json.dumps(_odd_config(rng))
        path.write_bytes(_damaged(text.encode(), rng) if case % 3 == 0 else text.encode())
        good += _tolerates(lambda: load_model(path))
    assert 0 < good < CONFIG_CASES  # some are still models, some are refused


def _specs() -> Iterator[tuple[bytes, Callable[[Path], object]]]:
    for name in ("h100-sxm5-80gb", "mi300x"):
        yield (_ROOT / "hardware_specs" / "devices" / f"{name}.toml").read_bytes(), load_device
    yield (_ROOT / "hardware_specs" / "clusters" / "dgx-h100.toml").read_bytes(), load_cluster
    yield min((_ROOT / "hardware_specs" / "links").glob("*.toml")).read_bytes(), load_link
    for path in sorted((_ROOT / "models").rglob("*.toml"))[:2]:
        yield path.read_bytes(), load_model


def test_spec_files(tmp_path: Path):
    rng = random.Random(14)
    path, specs, good = tmp_path / "spec.toml", list(_specs()), 0
    for case in range(SPEC_CASES):
        content, load = specs[case % len(specs)]
        path.write_bytes(_damaged(content, rng))
        good += _tolerates(lambda load=load: load(path))
    assert 0 < good < SPEC_CASES
