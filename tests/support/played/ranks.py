"""How do ranks on played devices talk? Through gloo, whatever was asked for of the devices' own library."""

from __future__ import annotations

import functools
from typing import Any

import torch.distributed as dist
import torch.distributed.device_mesh
from torch.nn.parallel import DistributedDataParallel


def torch_has_all(monkeypatch: Any) -> None:
    """This torch, which is built for CPUs, has the libraries of all devices."""
    monkeypatch.setattr(dist, "is_backend_available", lambda _name: True)


def gloo_for_nccl(monkeypatch: Any) -> None:
    """Process groups and meshes of played devices are those of CPUs."""
    init, new_group = dist.init_process_group, dist.new_group
    mesh = torch.distributed.device_mesh.init_device_mesh
    replicate = DistributedDataParallel.__init__

    def started(_backend, *args, **options):
        init("gloo", *args, **options | {"device_id": None})

    torch_has_all(monkeypatch)
    monkeypatch.setattr(dist, "init_process_group", started)
    monkeypatch.setattr(dist, "new_group", lambda *args, **options: new_group(*args, **options | {"backend": "gloo"}))
    monkeypatch.setattr(
        torch.distributed.device_mesh, "init_device_mesh", lambda _type, *args, **options: mesh("cpu", *args, **options)
    )

    @functools.wraps(replicate)
    def replicated(self, *args, **options):
        replicate(self, *args, **options | {"device_ids": None})

    monkeypatch.setattr(DistributedDataParallel, "__init__", replicated)
