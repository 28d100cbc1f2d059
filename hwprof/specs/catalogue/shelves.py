"""Where on the shelves does a catalogue name stand? Every model, device, link and cluster is one file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hwprof.errors import SpecError
from hwprof.specs.catalogue.released import released
from hwprof.specs.files import data_roots
from hwprof.specs.frozen import Record
from hwprof.specs.parsing import read_toml

Sort = Literal["model", "device", "link", "cluster"]


class Shelf(NamedTuple):
    """One sort of spec.

    Attributes:
        folder: under a data root.
        module: where its noun is; imported when it is needed, as counting a model needs no hardware.
        class_name: the noun's.
        example: a complete one.
        kinds: values of ``kind``.
    """

    folder: str
    module: str
    class_name: str
    example: str
    kinds: tuple[str, ...]

    @property
    def noun(self) -> type[Record]:
        """What a file of this sort is read as."""
        noun: type[Record] = getattr(import_module(self.module), self.class_name)
        return noun


_HARDWARE = "hwprof.specs.hardware.spec"

SHELVES: dict[Sort, Shelf] = {
    "model": Shelf(
        "models", "hwprof.specs.model.spec", "ModelSpec", "tiny", ("decoder", "encoder", "encoder_decoder", "vit")
    ),
    "device": Shelf("hardware_specs/devices", _HARDWARE, "DeviceSpec", "h100-sxm", ("gpu", "accelerator", "cpu")),
    "link": Shelf("hardware_specs/links", _HARDWARE, "LinkSpec", "nvlink4", ("scale_up", "host", "network")),
    "cluster": Shelf("hardware_specs/clusters", _HARDWARE, "ClusterSpec", "dgx-h100", ("cluster",)),
}
SORTS: tuple[Sort, ...] = tuple(SHELVES)


def find_file(sort: Sort, name: str) -> Path | None:
    """The catalogue file that ``name`` stands for, by id or alias; None where there is none.

    Raises:
        SpecError: two files claim the name, or a file that mentions it is not TOML.
    """
    wanted = name.strip().lower()
    claiming = [path for path in files_of(sort) if _mentions(path, wanted) and wanted in claims_of(path, sort)]
    if len(claiming) > 1:
        raise SpecError(
            f"{sort} name {name!r} is claimed by {' and by '.join(map(str, claiming))}",
            expectation="expected one file a name",
            remedy="rename one of them, or remove the alias from one",
        )
    return claiming[0] if claiming else None


def files_of(sort: Sort) -> Iterator[Path]:
    """Every file that holds a spec of this sort: its shelf in each root, and loose files where users put them.

    A model may also be a JSON file: its released configuration (:mod:`hwprof.specs.catalogue.released`).

    Raises:
        SpecError: a loose file is not TOML, or does not say of which sort it is.
    """
    for place, root in enumerate(data_roots()):
        yield from sorted((root / SHELVES[sort].folder).glob("*.toml"))
        if sort == "model":
            yield from sorted((root / SHELVES[sort].folder).glob("*.json"))
        loose = [*root.glob("*.toml"), *(root / "hardware_specs").glob("*.toml")] if place else []
        yield from (path for path in sorted(loose) if sort_of(read_toml(path), path) == sort)


def sort_of(tables: dict[str, Any], path: Path) -> Sort:
    """Which sort of spec the tables of ``path`` are, by their key ``kind``.

    Raises:
        SpecError: there is no such key, or it has none of the known values.
    """
    for sort, shelf in SHELVES.items():
        if tables.get("kind") in shelf.kinds:
            return sort
    kinds = ", ".join(f"{kind} ({sort})" for sort, shelf in SHELVES.items() for kind in shelf.kinds)
    raise SpecError(
        f"{path}: key 'kind' is {tables['kind']!r}" if "kind" in tables else f"{path}: key 'kind' is missing",
        expectation=f"expected one of {kinds}",
        remedy="add it, or move the file out of the folder",
    )


def _mentions(path: Path, name: str) -> bool:
    """Whether the file may claim the name: a cheap look that spares parsing every file."""
    if path.stem.lower() == name:
        return True
    try:
        text = path.read_bytes().decode(errors="replace").lower()
    except OSError:
        return True  # parsing it reports why it cannot be read
    return f'"{name}"' in text or f"'{name}'" in text


def claims_of(path: Path, sort: Sort) -> tuple[str, ...]:
    """The lower-case id and aliases of a catalogue file.

    Raises:
        SpecError: the file is not TOML, or its id is not its file name.
    """
    if path.suffix == ".json":
        return (path.stem.lower(), *(alias.lower() for alias in released(path).aliases))
    tables = read_toml(path)
    key = "name" if sort == "model" else "id"
    aliases = tables.get("aliases", [])
    if str(tables.get(key, "")).lower() != path.stem.lower():
        raise SpecError(
            f"{path}: key {key!r} is {tables.get(key)!r}",
            expectation=f"expected {path.stem!r}, the name of the file",
            remedy="rename the file or the spec",
        )
    return (path.stem.lower(), *(str(alias).lower() for alias in (aliases if isinstance(aliases, list) else [])))
