"""Is the memory that is left the least that anybody tells of?"""

import resource
from types import SimpleNamespace

import psutil
import pytest
import torch

from hwprof.measure.host import memory
from hwprof.measure.host.container import MemoryLimit
from hwprof.measure.host.memory import available_memory_bytes

CPU = torch.device("cpu")


def test_the_host_s_memory_is_what_the_operating_system_calls_available(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000))
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    assert available_memory_bytes(CPU) == (8000.0, "available on the host, as the operating system reports it")


@pytest.mark.parametrize(("used_bytes", "left_bytes"), [(1000, 4000.0), (6000, 0.0)])
def test_a_container_s_limit_counts_where_it_leaves_less(monkeypatch, used_bytes, left_bytes):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000))
    monkeypatch.setattr(memory, "memory_limit", lambda: MemoryLimit(limit_bytes=5000, used_bytes=used_bytes))
    assert available_memory_bytes(CPU) == (left_bytes, "left under the container's memory limit")


def test_a_gpu_s_memory_is_what_is_free_on_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (70_000, 80_000))
    assert available_memory_bytes(torch.device("cuda", 0)) == (70000.0, "free on the device, as CUDA reports it")


@pytest.mark.parametrize(("kind", "words"), [("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d")])
def test_limit_of_the_process_is_the_capacity_where_it_is_less(monkeypatch, kind, words):
    used = psutil.Process().memory_info()
    limit_bytes = 10**6 + max(used.vms, used.data)
    limits = {getattr(resource, kind): (limit_bytes, limit_bytes)}
    monkeypatch.setattr("resource.getrlimit", lambda asked: limits.get(asked, (resource.RLIM_INFINITY,) * 2))
    left_bytes, source = available_memory_bytes(CPU)
    assert 0 <= left_bytes <= limit_bytes - min(used.vms, used.data)
    assert words in source
