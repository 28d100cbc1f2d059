"""What is wrong in the catalogue or in a user's file?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hwprof.errors import InputError, SpecError
from hwprof.specs.catalogue.detect import alike
from hwprof.specs.catalogue.lookup import list_devices, resolved
from hwprof.specs.catalogue.released import released
from hwprof.specs.catalogue.shelves import SHELVES, SORTS, claims_of, files_of, sort_of
from hwprof.specs.frozen import Record
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec
from hwprof.specs.parsing import build, problems_in, read_toml


def check_file(path: Path) -> list[SpecError]:
    """Every problem of one spec file of any sort; empty when it is right."""
    try:
        if path.suffix == ".json":
            released(path)
            return []
        tables = read_toml(path)
        shelf = SHELVES[sort_of(tables, path)]
        found = resolved(sort_of(tables, path), tables)
        problems = problems_in(shelf.noun, found, path=path, example=shelf.example)
        return problems or list(_dangling_names(build(shelf.noun, found, path=path, example=shelf.example)))
    except SpecError as error:
        return [error]
    except InputError as error:
        return [SpecError(f"{path}: {error.fact}", expectation=error.expectation, remedy=error.remedy)]


def check_catalogue() -> tuple[int, list[SpecError]]:
    """How many files the catalogue has, and every problem in and between them."""
    paths = sorted({path for sort in SORTS for path in files_of(sort)})
    problems = [problem for path in paths for problem in check_file(path)]
    if not problems:
        problems = _clashes()
    return len(paths), problems


def _clashes() -> list[SpecError]:
    """Names that two files claim: catalogue names over all sorts, and what torch and NVML print over the devices."""
    claims: list[tuple[str, str]] = []
    for sort in SORTS:
        claims += [(claim, str(path)) for path in files_of(sort) for claim in claims_of(path, sort)]
    clashing = {name: owners for name, owners in _grouped(claims).items() if len(owners) > 1}
    return [
        SpecError(f"name {name!r} is claimed by {' and by '.join(owners)}", remedy="remove it from all but one")
        for name, owners in (clashing | _shared_names(list_devices())).items()
    ]


def _shared_names(devices: Iterable[DeviceSpec]) -> dict[str, list[str]]:
    """What torch, NVML or /proc/cpuinfo print for devices that neither units nor memory tell apart."""
    owners: dict[str, list[DeviceSpec]] = {}
    for device in devices:
        for name in (*device.names, *device.cpu_models):
            owners.setdefault(name, []).append(device)
    return {
        name: [device.id for device in each]
        for name, each in owners.items()
        if any(alike(device, other) for index, device in enumerate(each) for other in each[:index])
    }


def _grouped(claims: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for name, owner in claims:
        owners.setdefault(name, []).append(owner)
    return owners


def _dangling_names(owner: Record) -> Iterator[SpecError]:
    """Links and chips that a device or a cluster names and no file describes; to predict with them would fail."""
    known = {claim for path in files_of("link") for claim in claims_of(path, "link")}
    for name in dict.fromkeys(_links_named(owner)):
        if name and name not in known:
            yield SpecError(
                f"{getattr(owner, 'id', '')} names the link {name!r}, which no file describes",
                remedy="add that link or correct the name",
            )
    chip = owner.compute.same_chip_as if isinstance(owner, DeviceSpec) else ""
    if chip and chip not in {device.id for device in list_devices()}:
        yield SpecError(
            f"{getattr(owner, 'id', '')} is the same chip as {chip!r}, which no file describes",
            remedy="write the id of that device",
        )


def _links_named(owner: Record) -> tuple[str, ...]:
    if isinstance(owner, ClusterSpec):
        return (owner.network,)
    if not isinstance(owner, DeviceSpec):
        return ()
    peer = owner.link.link if owner.link else ""
    host = owner.host_link.link if owner.host_link else ""
    return (peer, host, owner.node.network)
