"""Which models, devices, links and clusters are known, and which one does a name or a file stand for?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.errors import InputError, SpecError, UnknownNameError
from hwprof.specs.catalogue.released import Released, described, released
from hwprof.specs.catalogue.shelves import SHELVES, Sort, claims_of, files_of, find_file
from hwprof.specs.catalogue.spoken import meant_files, spoken_file
from hwprof.specs.files import PATH_VARIABLE
from hwprof.specs.frozen import Record
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import build, read_toml

if TYPE_CHECKING:
    from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec, LinkSpec

_ORGANISED = re.compile(r"[\w.-]+/[\w.-]+")
"""A name behind its organisation, as on Hugging Face."""

_COUNTED_DEVICE = re.compile(r"([0-9]+)\s*x\s*(.*)", re.IGNORECASE)


def load_model(name_or_path: str | Path) -> ModelSpec:
    """The model of a catalogue name, an alias, a TOML file or a Hugging Face ``config.json``; case does not matter.

    Raises:
        UnknownNameError: no such name and no such file.
        SpecError: the file is wrong.
    """
    model = _load("model", name_or_path)
    assert isinstance(model, ModelSpec)
    return model


def config_file(name_or_path: str | Path) -> Path | None:
    """The ``config.json`` that a name or path of a model stands for; None where it is something else."""
    text = str(name_or_path).strip()
    path = Path(text)
    inside = path / "config.json"
    if _exists(inside):
        return inside
    if _exists(path):
        return path if path.suffix.lower() == ".json" and path.name != "params.json" else None
    kept = _named_file("model", text) if text else None
    return kept if kept is not None and kept.suffix == ".json" else None


def load_device(name_or_path: str | Path) -> DeviceSpec:
    """The device of a catalogue name, an alias or a TOML file; raises as ``load_model`` does."""
    from hwprof.specs.hardware.spec import DeviceSpec

    device = _load("device", name_or_path)
    assert isinstance(device, DeviceSpec)
    return device


def load_link(name_or_path: str | Path) -> LinkSpec:
    """The link of a catalogue name, an alias or a TOML file; raises as ``load_model`` does."""
    from hwprof.specs.hardware.spec import LinkSpec

    link = _load("link", name_or_path)
    assert isinstance(link, LinkSpec)
    return link


def load_cluster(text: str | Path) -> ClusterSpec:
    """The cluster of ``8xh100-sxm`` (so many devices), of a catalogue name, or of a TOML file.

    Up to the device's usual node size, the devices share one node; more of them fill usual nodes on the usual network.

    Raises:
        UnknownNameError: no such cluster or device.
        SpecError: the file is wrong, or no usual network is known for so many devices.
        InputError: the number of devices is zero or fills no whole nodes.
    """
    from hwprof.specs.hardware.spec import ClusterSpec

    counted = _COUNTED_DEVICE.fullmatch(str(text).strip())
    if counted is not None and not _exists(text):
        return _usual_cluster(int(counted.group(1)), load_device(counted.group(2)))
    cluster = _load("cluster", text)
    assert isinstance(cluster, ClusterSpec)
    return cluster


def counted(text: str) -> tuple[int | None, str]:
    """How many of which device ``8xh100`` means; None where it names no number."""
    found = _COUNTED_DEVICE.fullmatch(text.strip())
    return (int(found.group(1)), found.group(2)) if found else (None, text)


def list_models() -> tuple[ModelSpec, ...]:
    """Every model of the catalogue that hwprof can describe, by file name; the others are ``list_captured``."""
    return tuple(spec for spec in _all("model") if isinstance(spec, ModelSpec))


def list_captured() -> dict[str, Released]:
    """What is known of the models of the catalogue that are captured when they are asked for, by name."""
    return {path.stem: released(path) for path in files_of("model") if _is_captured(path)}


def _is_captured(path: Path) -> bool:
    """Whether it is a released configuration of a type that no reader takes whole."""
    from hwprof.specs.huggingface import READ_WHOLE, model_type_of

    return path.suffix == ".json" and model_type_of(path) not in READ_WHOLE


def list_devices(*, saying: str = "") -> tuple[DeviceSpec, ...]:
    """Every device of the catalogue, by file name; of those files that have ``saying`` in them, if anything."""
    from hwprof.specs.hardware.spec import DeviceSpec

    return tuple(spec for spec in _all("device", saying) if isinstance(spec, DeviceSpec))


def list_links() -> tuple[LinkSpec, ...]:
    """Every link of the catalogue, by file name."""
    from hwprof.specs.hardware.spec import LinkSpec

    return tuple(spec for spec in _all("link") if isinstance(spec, LinkSpec))


def list_clusters() -> tuple[ClusterSpec, ...]:
    """Every cluster of the catalogue, by file name."""
    from hwprof.specs.hardware.spec import ClusterSpec

    return tuple(spec for spec in _all("cluster") if isinstance(spec, ClusterSpec))


def resolved(sort: Sort, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with the device's name replaced by the device, for a cluster; raises as ``load_device`` does."""
    if sort == "cluster" and isinstance(tables.get("device"), str):
        return tables | {"device": load_device(tables["device"])}
    return tables


def _load(sort: Sort, name_or_path: str | Path) -> Record:
    text = str(name_or_path).strip()
    if not text:
        raise InputError(f"no {sort} is named", remedy=f"name one; `hwprof specs list {sort}s` shows all")
    is_path = isinstance(name_or_path, Path) or text.lower().endswith((".toml", ".json"))
    if is_path or (os.sep in text and (_exists(text) or not _ORGANISED.fullmatch(text))):
        return _from_path(sort, Path(text))
    if find_file(sort, text) is None and _exists(text):
        return _from_path(sort, Path(text))
    path = _named_file(sort, text)
    if path is not None:
        return _from_file(sort, path)
    raise _unknown(sort, text)


def _named_file(sort: Sort, text: str) -> Path | None:
    return find_file(sort, text) or spoken_file(sort, text)


def _from_path(sort: Sort, path: Path) -> Record:
    if sort != "model" or not _exists(path):
        return _from_file(sort, path)
    from hwprof.specs.foreign.files import IN_FOLDERS, file_in, foreign_model

    file = file_in(path) or path
    if file.is_dir():
        raise SpecError(
            f"{path} is a folder in which no file says what its model is",
            expectation=f"one of {', '.join(IN_FOLDERS)}",
            remedy="put the model's config.json into it, or name a file",
        )
    found = foreign_model(file, load_model)
    if found is not None:
        return found
    return _from_config(file) if file.suffix.lower() == ".json" else _from_file(sort, file)


def _from_config(path: Path) -> ModelSpec:
    from hwprof.specs.huggingface import model_from_config

    return model_from_config(path)


def _from_file(sort: Sort, path: Path) -> Record:
    if sort == "model" and path.suffix == ".json":
        return described(path)
    shelf = SHELVES[sort]
    return build(shelf.noun, resolved(sort, read_toml(path)), path=path, example=shelf.example)


def _unknown(sort: Sort, name: str) -> InputError:
    if sort == "cluster" and find_file("device", name) is not None:
        return InputError(f"{name!r} is a device, not a cluster", remedy=f"say how many, for example 8x{name}")
    known = {claim for path in files_of(sort) for claim in claims_of(path, sort)}
    remedy = f"write a TOML file for it and give its path (`hwprof specs show {SHELVES[sort].example}` prints one), "
    if sort == "model" and _ORGANISED.fullmatch(name):
        remedy = (
            f"give its config.json: `hf download {name} config.json --local-dir mine`, then --model mine; or {remedy}"
        )
    return UnknownNameError(
        kind=sort,
        name=name,
        known=known,
        remedy=remedy + f"or put it in a folder of {PATH_VARIABLE}",
        meant=[path.stem for path in meant_files(sort, name)][:MOST_MEANT],
    )


MOST_MEANT = 6
"""Names that an unknown one may have meant, which are told."""


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a name is too long for the file system)


def _usual_cluster(devices: int, device: DeviceSpec) -> ClusterSpec:
    from hwprof.specs.hardware.spec import ClusterSpec

    node, name = device.node, f"{devices}x{device.id}"
    if devices == 0 or (devices > node.devices and devices % node.devices):
        raise InputError(
            f"{name} fills no whole nodes",
            expectation=f"expected 1 to {node.devices} devices, or a multiple of {node.devices}, the usual node",
            remedy="change the number, or write a cluster file with its own devices_per_node",
        )
    if devices > max(node.devices, node.scale_up_domain) and node.inter_node_byte_per_s is None:
        raise SpecError(
            f"no usual network is known for {device.id}, so {name} is not defined",
            remedy="write a cluster file with inter_node and give its path (`hwprof specs show dgx-h100` prints one)",
        )
    return ClusterSpec.model_construct(  # from values in base units, which were checked when the device was read
        id=name,
        device=device,
        devices=devices,
        devices_per_node=min(devices, node.devices),
        scale_up_domain=min(devices, node.scale_up_domain),
        inter_node_byte_per_s=node.inter_node_byte_per_s,
        network=node.network,
        notes=f"{devices} devices in the usual nodes of {device.id}. {node.note}".strip(),
        source={"node": " | ".join(node.source)},
    )


def _all(sort: Sort, saying: str = "") -> Iterator[Record]:
    for path in files_of(sort):
        if saying and not _says(path, saying):
            continue
        claims_of(path, sort)
        if not _is_captured(path):
            yield _from_file(sort, path)


def _says(path: Path, text: str) -> bool:
    """Whether a file has a text in it, or may have it behind an escape; its tables are not read."""
    read = path.read_text(encoding="utf-8", errors="replace")
    return text in read or "\\" in read
