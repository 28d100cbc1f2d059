"""Which models, devices, links and clusters are known, and which one does a name or a file stand for?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.errors import InputError, SpecError, UnknownNameError
from hwprof.specs.catalogue.released import Released, described, released
from hwprof.specs.catalogue.shelves import SHELVES, SORTS, Sort, claims_of, files_of, find_file
from hwprof.specs.catalogue.spoken import meant_files, spoken_file
from hwprof.specs.frozen import Record
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import build, read_toml

if TYPE_CHECKING:
    from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec, LinkSpec

_ORGANISED = re.compile(r"[\w.-]+/[\w.-]+")
"""A name behind its organisation, as on Hugging Face."""

_COUNTED_DEVICE = re.compile(r"([0-9]+)\s*[x×*]\s*(.*)", re.IGNORECASE)
_COUNT_BEHIND = re.compile(r"(.*\S)\s*[x×*]\s*([0-9]+)", re.IGNORECASE)
_NUMBER = "[0-9]{1,5}|one|two|three|four|eight|sixteen"
_SPOKEN_COUNT = re.compile(rf"({_NUMBER})\s+(\S.*)", re.IGNORECASE)
_MACHINES = re.compile(
    rf"({_NUMBER})\s*(?:nodes?|servers?|machines?|hosts?)(?:\s+(?:of|with)|\s*[,x×*])?\s+(\S.*)", re.IGNORECASE
)
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "eight": 8, "sixteen": 16}


def load_model(name_or_path: str | Path) -> ModelSpec:
    """The model of a catalogue name, an alias, a TOML file or a Hugging Face ``config.json``; case does not matter.

    Raises:
        UnknownNameError: no such name and no such file.
        SpecError: the file is wrong.
    """
    if str(name_or_path).startswith("torchtitan:"):
        from hwprof.specs.foreign.torchtitan import flavor_named

        name_or_path = flavor_named(str(name_or_path))
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
    """The cluster of ``8xh100-sxm`` (so many devices), ``4xdgx-h100`` (so many of them), a catalogue name, a TOML file.

    Up to the device's usual node size, the devices share one node; more of them fill usual nodes on the usual network.

    Raises:
        UnknownNameError: no such cluster or device.
        SpecError: the file is wrong, or no usual network is known for so many devices.
        InputError: the number of devices is zero or fills no whole nodes.
    """
    from hwprof.specs.hardware.spec import ClusterSpec

    count, name = (None, str(text)) if _exists(text) else counted(str(text))
    if count is not None:
        return cluster_of(count, name)
    cluster = _load("cluster", text)
    assert isinstance(cluster, ClusterSpec)
    return cluster


def counted(text: str, *, alone: bool = False) -> tuple[int | None, str]:
    """How many devices of what ``8xh100`` or ``4x dgx h100`` (four clusters) means; None where it names no number.

    Machines have a number of their own: ``2x8xh100``, ``2 nodes of 8 h100``. With ``alone`` the name of a cluster
    stands for all its devices.
    """
    count, name = _split_count(text.strip())
    cluster = _cluster_named(name) if count is not None or alone else None
    if cluster is None:
        return count, name
    return (1 if count is None else count) * cluster.devices, cluster.id


def _split_count(text: str) -> tuple[int | None, str]:
    """The number before, or behind, what is a name; a name as a whole (``7900 XTX``) has none."""
    machines, first, last = (each.fullmatch(text) for each in (_MACHINES, _COUNTED_DEVICE, _COUNT_BEHIND))
    if machines and (inside := _split_count(machines[2]))[0]:
        return _number(machines[1]) * inside[0], inside[1]
    known = bool(first and find_file("device", first[2]))
    if last and not known and not _named_file("device", text) and _is_hardware(last[1]):
        return int(last[2]), last[1]
    if first and (known or not _named_file("device", text)):
        inner, name = _split_count(first[2])
        return int(first[1]) * (1 if inner is None else inner), name
    spoken = _SPOKEN_COUNT.fullmatch(text)
    if spoken and not _named_file("device", text) and _named_file("device", spoken[2]):
        return _number(spoken[1]), spoken[2]
    return None, text


def _number(text: str) -> int:
    return _NUMBERS.get(text.lower()) or int(text)


def _is_hardware(name: str) -> bool:
    return bool(_named_file("device", name) or _named_file("cluster", name))


def cluster_of(devices: int, hardware: str) -> ClusterSpec:
    """So many devices of a name: in their usual nodes, or in those of the cluster whose name it is.

    Raises:
        UnknownNameError: it is neither a device nor a cluster.
        SpecError, InputError: as ``load_cluster``.
    """
    cluster = _cluster_named(hardware)
    if cluster is None:
        return _usual_cluster(devices, load_device(hardware))
    node = cluster.devices_per_node
    _check_whole(devices, hardware, node)
    return type(cluster).model_construct(  # from values that were checked when the file was read
        **dict(cluster)
        | {
            "id": f"{devices}x{cluster.id}",
            "devices": devices,
            "devices_per_node": min(devices, node),
            "scale_up_domain": min(devices, cluster.scale_up_domain),
        }
    )


def _cluster_named(name: str) -> ClusterSpec | None:
    """The cluster of an id, an alias or their letters, where no device has that very name."""
    if find_file("device", name) is not None or not name.strip():
        return None
    path = _named_file("cluster", name)
    if path is None:
        return None
    from hwprof.specs.hardware.spec import ClusterSpec

    cluster = _from_file("cluster", path)
    assert isinstance(cluster, ClusterSpec)
    return cluster


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


def find_any(name: str) -> tuple[Sort, Path] | None:
    """The file that a name stands for, of whatever sort it is: by id or alias, else as it is spoken."""
    spoken: tuple[Sort, ...] = ("model", "cluster", "device", "link")
    for find, sorts in ((find_file, SORTS), (spoken_file, spoken)):
        for sort in sorts:
            path = find(sort, name)
            if path is not None:
                return sort, path
    return None


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
    several = [each.strip() for each in name.split(",")]
    if len(several) > 1 and all(_named_file(sort, each) for each in several):
        names = f"{', '.join(several[:-1])} and {several[-1]}"
        return InputError(f"{name!r} names {names}", expectation=f"one {sort} here", remedy="ask for each by itself")
    known = {claim for path in files_of(sort) for claim in claims_of(path, sort)}
    example = SHELVES[sort].example
    remedy = f"`hwprof specs list {sort}s` shows all; or give a TOML file, or put it in a folder of HWPROF_PATH"
    remedy = f"{remedy} (`hwprof specs show {example}` prints one)"
    if sort == "device" and re.fullmatch(r"[0-9.]+\s*[gt]i?b?", name, re.IGNORECASE):
        remedy = f"that is a size of memory: `hwprof fit --memory {name}`"
    if sort == "device" and _PROCESSOR.search(name):
        remedy = "`hwprof run --model tiny --device cpu` measures the one that is here, `hwprof fit` takes its --memory"
    if sort == "model" and _ORGANISED.fullmatch(name):
        remedy = (
            f"give its config.json: `hf download {name} config.json --local-dir mine`, then --model mine; of a "
            "diffusion model transformer/config.json"
        )
    return UnknownNameError(
        kind=sort,
        name=name,
        known=known,
        remedy=remedy,
        meant=([path.stem for path in meant_files(sort, name)] or _with_words(sort, name))[:MOST_MEANT],
        related=_sharing_words(name)[:MOST_MEANT] if sort == "device" else [],
    )


_PROCESSOR = re.compile(r"^laptop|\b(cpu|processor|core|i[3579]|ryzen|xeon|epyc|threadripper|intel)\b", re.IGNORECASE)


def _with_words(sort: Sort, name: str) -> list[str]:
    """Models that have all words of the name: ``0.5b``, ``llama 4``."""
    words = set(re.split(r"[\s_-]+", name.lower()))
    return [path.stem for path in files_of(sort) if words <= set(path.stem.split("-"))] if sort == "model" else []


def _sharing_words(name: str) -> list[str]:
    """Devices and clusters that have a word of the name, those first that have most."""
    words = {word for word in re.split(r"[\s_-]+", name.lower()) if len(word) > 1}
    shared = {
        path.stem: len(words.intersection(path.stem.split("-")))
        for sort in ("device", "cluster")
        for path in files_of(sort)
    }
    return sorted(filter(shared.get, shared), key=lambda stem: -shared[stem])


MOST_MEANT = 6
"""Names that an unknown one may have meant, which are told."""


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a name is too long for the file system)


def _usual_cluster(devices: int, device: DeviceSpec) -> ClusterSpec:
    from hwprof.specs.hardware.spec import ClusterSpec

    node, name = device.node, f"{devices}x{device.id}"
    _check_whole(devices, device.id, node.devices)
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


def _check_whole(devices: int, name: str, node: int) -> None:
    if devices == 0 or (devices > node and devices % node):
        below = devices // node * node
        near = f"{below} or {below + node}" if below else str(node)
        raise InputError(
            f"{devices}x{name} fills no whole nodes",
            expectation=f"expected 1 to {node} devices, or a multiple of {node}, the usual node",
            remedy=f"take {near}, or write a cluster file with its own devices_per_node",
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
