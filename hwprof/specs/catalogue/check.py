"""What is wrong in the catalogue or in a user's file?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hwprof.errors import InputError, SpecError
from hwprof.specs.catalogue.lookup import list_clusters, list_devices, list_links, resolved
from hwprof.specs.catalogue.shelves import SHELVES, SORTS, claims_of, files_of, sort_of
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.parsing import problems_in, read_toml


def check_file(path: Path) -> list[SpecError]:
    """Every problem of one spec file of any sort; empty when it is right."""
    try:
        tables = read_toml(path)
        sort = sort_of(tables, path)
        return problems_in(SHELVES[sort].noun, resolved(sort, tables), path=path, example=SHELVES[sort].example)
    except SpecError as error:
        return [error]
    except InputError as error:
        return [SpecError(f"{path}: {error.fact}", expectation=error.expectation, remedy=error.remedy)]


def check_catalogue() -> tuple[int, list[SpecError]]:
    """How many files the catalogue has, and every problem in and between them."""
    paths = sorted({path for sort in SORTS for path in files_of(sort)})
    problems = [problem for path in paths for problem in check_file(path)]
    if not problems:
        problems = [*_clashes(), *_dangling_links()]
    return len(paths), problems


def _clashes() -> list[SpecError]:
    """Names that two files claim: catalogue names over all sorts, and what torch and NVML print over the devices."""
    claims: list[tuple[str, str]] = []
    for sort in SORTS:
        claims += [(claim, str(path)) for path in files_of(sort) for claim in claims_of(path, sort)]
    claims += [(name, device.id) for device in list_devices() for name in (*device.names, *device.cpu_models)]
    return [
        SpecError(f"name {name!r} is claimed by {' and by '.join(owners)}", remedy="remove it from all but one")
        for name, owners in _grouped(claims).items()
        if len(owners) > 1
    ]


def _grouped(claims: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for name, owner in claims:
        owners.setdefault(name, []).append(owner)
    return owners


def _dangling_links() -> list[SpecError]:
    known = {link.id for link in list_links()}
    named = [(device.id, name) for device in list_devices() for name in _links_named(device)]
    named += [(cluster.id, cluster.network) for cluster in list_clusters()]
    return [
        SpecError(
            f"{owner} names the link {name!r}, which no file describes", remedy="add that link or correct the name"
        )
        for owner, name in named
        if name and name not in known
    ]


def _links_named(device: DeviceSpec) -> tuple[str, ...]:
    peer = device.link.link if device.link else ""
    host = device.host_link.link if device.host_link else ""
    return (peer, host, device.node.network)
