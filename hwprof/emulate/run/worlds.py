"""How do process groups come to be, of one rank of many? What scripts call to make them, and to pass objects round."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import pickle
import zlib
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.emulate.run import groups
from hwprof.emulate.run.groups import BACKEND, EmulatedGroup, ranks_named, written
from hwprof.emulate.run.rank import Rank
from hwprof.emulate.run.rebinding import rebind

_torch: Any = torch
_dist: Any = dist


def install(rank: Rank) -> None:
    """Make every process group one of these, for the rest of this process."""
    groups.play(rank)
    c10d.Backend.register_backend(BACKEND, _create, extended_api=True, devices=["cpu", "cuda"])
    helper = c10d._new_process_group_helper

    def real_helper(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return helper(*args, **kwargs)

    names = {
        "_new_process_group_helper": real_helper,
        **_worlds(rank),
        **_subgroups(rank),
        **_objects(rank),
        **_letters(rank),
        "monitored_barrier": lambda *_, **__: None,
        "is_nccl_available": lambda: rank.believed.kind == "cuda",
        "get_node_local_rank": lambda *_, **__: rank.number % rank.believed.node,
    }
    for name, value in names.items():
        if hasattr(c10d, name):
            rebind(c10d, name, value)


def _worlds(rank: Rank) -> dict[str, Any]:
    """The group of all ranks, of the backend that the script asks for."""
    asked: dict[str, str] = {}
    usual = "nccl" if rank.believed.kind == "cuda" else "gloo"
    real_init = c10d.init_process_group

    def init_process_group(backend: Any = None, *_: Any, timeout: timedelta | None = None, **__: Any) -> None:
        asked["backend"] = str(backend).lower() if backend is not None else usual
        if asked["backend"] == "gloo" and usual != "gloo":  # a script that insists on it trains on the host
            rank.note("process group gloo: the script trains on the CPU")
            _torch._C._get_accelerator = lambda *_: torch.device("cpu")
        with _disable_current_modes():
            store, devices = _dist.HashStore(), rank.believed.devices
            real_init(BACKEND, rank=rank.number, world_size=devices, store=store, timeout=timeout)

    def get_backend(group: Any = None) -> str:
        del group
        return asked.get("backend", usual).partition(",")[0].rpartition(":")[2]

    return {"init_process_group": init_process_group, "get_backend": get_backend}


def _subgroups(rank: Rank) -> dict[str, Any]:
    """Groups of some ranks; those without this one cost nothing."""
    real_new = c10d.new_group
    ours = {"backend", "pg_options", "device_id"}

    def new_group(ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
        if ranks is not None:
            ranks = [int(each) for each in ranks]
            if rank.number not in ranks:
                return c10d.GroupMember.NON_GROUP_MEMBER
        kept = {name: value for name, value in kwargs.items() if name not in ours}
        with _disable_current_modes():
            return real_new(ranks, *args[:1], **kept)

    def split_group(parent_pg: Any = None, split_ranks: Any = None, *_: Any, **__: Any) -> Any:
        del parent_pg
        mine = next((ranks for ranks in split_ranks or [] if rank.number in ranks), None)
        return None if mine is None else new_group(mine)

    return {"new_group": new_group, "split_group": split_group}


def _create(options: Any, _backend_options: Any) -> EmulatedGroup:
    ranks = options.global_ranks_in_group or range(options.group_size)
    return EmulatedGroup([int(each) for each in ranks], options.group_rank)


def _objects(rank: Rank) -> dict[str, Any]:
    """Collectives of Python objects, arguments by torch's own names: equal ranks have equal ones.

    What one rank has for all it leaves for them; another one waits for that, where ranks are emulated in turn.
    """

    def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
        ranks = _ranks_of(group)
        size = len(pickle.dumps(obj)) if _picklable(obj) else 0
        written("all_gather", ranks, 8 * len(ranks), beside=False)
        written("all_gather", ranks, size * len(ranks), beside=False)
        object_list[:] = [obj] * len(object_list)

    def broadcast_object_list(
        object_list: list[Any], src: int | None = None, group: Any = None, device: Any = None, **more: Any
    ) -> None:
        del device
        ranks = _ranks_of(group)
        object_list[:] = _left(rank, object_list, ranks, _peer(group, src, more.get("group_src"))) or object_list
        sizes = [len(pickle.dumps(each)) for each in object_list if _picklable(each)]
        for size in (8 * len(object_list), sum(sizes)):
            written("broadcast", ranks, size, beside=False)

    def gather_object(obj: Any, object_gather_list: list[Any] | None = None, *_: Any, **__: Any) -> None:
        if object_gather_list is not None:
            object_gather_list[:] = [obj] * len(object_gather_list)

    def scatter_object_list(
        scatter_object_output_list: list[Any],
        scatter_object_input_list: list[Any] | None = None,
        src: int | None = None,
        group: Any = None,
        **more: Any,
    ) -> None:
        ranks = _ranks_of(group)
        objects = _left(rank, scatter_object_input_list, ranks, _peer(group, src, more.get("group_src")))
        if objects:
            scatter_object_output_list[0] = objects[ranks.index(rank.number)]

    return {
        "all_gather_object": all_gather_object,
        "broadcast_object_list": broadcast_object_list,
        "gather_object": gather_object,
        "scatter_object_list": scatter_object_list,
    }


def _left(rank: Rank, objects: list[Any] | None, ranks: tuple[int, ...], source: int) -> list[Any] | None:
    """What a rank has for all others of its group; None where nobody can know it."""
    to = f"group-{zlib.crc32(repr(ranks).encode())}"
    if source != rank.number:
        return list(rank.mail.receive(source, to)) if rank.mail.shared else None
    if rank.mail.shared:
        rank.mail.send(source, to, list(objects or ()) if _picklable(objects) else [])
    return objects


def _letters(rank: Rank) -> dict[str, Any]:
    """Objects that one rank sends to another."""

    def send_object_list(
        object_list: list[Any], dst: int | None = None, group: Any = None, *_: Any, **more: Any
    ) -> None:
        peer, sizes = _peer(group, dst, more.get("group_dst")), [len(pickle.dumps(each)) for each in object_list]
        rank.mail.send(rank.number, str(peer), list(object_list))
        for size in (8 * len(object_list), sum(sizes)):
            written("send", _ranks_of(group), size, beside=False, peer=peer)

    def recv_object_list(
        object_list: list[Any], src: int | None = None, group: Any = None, *_: Any, **more: Any
    ) -> int:
        peer = _peer(group, src, more.get("group_src"))
        object_list[:] = rank.mail.receive(peer, str(rank.number))
        for size in (8 * len(object_list), sum(len(pickle.dumps(each)) for each in object_list)):
            written("recv", _ranks_of(group), size, beside=False, peer=peer)
        return peer

    return {"send_object_list": send_object_list, "recv_object_list": recv_object_list}


def _peer(group: Any, rank: int | None, place: int | None) -> int:
    return _ranks_of(group)[place or 0] if rank is None else rank


def _ranks_of(group: Any) -> tuple[int, ...]:
    return ranks_named(group if group is not None else c10d._get_default_group())


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 (whatever an object's own code raises)
        return False
    return True
