"""What is a device, a link, a cluster, in numbers? Data files use the datasheet's units, nouns use base units.

A field such as ``bandwidth_byte_per_s`` is the key ``bandwidth`` of the file, written with its unit: ``"3.35 TB/s"``.
Every rate of a link is one direction. Every figure is per device as the framework sees it (``torch.cuda`` device,
JAX device): a package that shows up as two devices is halved, and ``[package]`` keeps what the vendor prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from hwprof.errors import InputError
from hwprof.specs.frozen import CHANGED, Record
from hwprof.specs.measurement import Origin
from hwprof.specs.model.spec import PositiveInt
from hwprof.units import Dimension, parse

MatmulDtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
Topology = Literal["switch", "mesh", "torus", "bridge", "hybrid-cube-mesh", "direct", "unknown"]
ArchitectureFamily = Literal[
    "volta",
    "turing",
    "ampere",
    "ada",
    "hopper",
    "blackwell",
    "cdna",
    "tpu",
    "gaudi",
    "trainium",
    "apple",
    "cpu",
    "other",
]
"""Devices whose kernels are alike; what is not known of one device is taken from its family, of ``other`` from all."""

Text = Annotated[str, Field(min_length=1)]
Source = Annotated[tuple[Text, ...], Field(min_length=1)]


def _quantity(dimension: Dimension) -> Callable[[Any, ValidationInfo], Any]:
    def parsed(text: Any, info: ValidationInfo) -> Any:
        if info.context == CHANGED and isinstance(text, float | int):
            return text
        if not isinstance(text, str):
            raise InputError(f"{text!r} has no unit", expectation='expected a string with a unit such as "3.35 TB/s"')
        return parse(text, dimension)

    return parsed


Bytes = Annotated[float, BeforeValidator(_quantity("byte")), Field(gt=0)]
BytePerSecond = Annotated[float, BeforeValidator(_quantity("byte_per_s")), Field(gt=0)]
FlopPerSecond = Annotated[float, BeforeValidator(_quantity("flop_per_s")), Field(gt=0)]
OpPerSecond = Annotated[float, BeforeValidator(_quantity("op_per_s")), Field(gt=0)]
Hertz = Annotated[float, BeforeValidator(_quantity("hertz")), Field(gt=0)]
Watt = Annotated[float, BeforeValidator(_quantity("watt")), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(_quantity("s")), Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
UsdPerHour = Annotated[float, BeforeValidator(_quantity("usd_per_hour")), Field(gt=0)]


class Sourced(Record):
    """A table of a data file: its numbers, where they are from, and which of them were written from memory."""

    source: Source
    recalled: tuple[Text, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _recalled_keys_exist(self) -> Self:
        keys = {field.alias or name for name, field in type(self).model_fields.items()}
        for key in self.recalled:
            if key not in keys:
                raise ValueError(f"recalled names {key!r}, which is no key of this table")
        return self


class Compute(Sourced):
    """The compute units of one device.

    ``peak_clock_hertz`` is the clock that the peaks assume, often below boost. ``same_chip_as`` is the id of a device
    with the same compute and other memory: too few published runs would make them as different as the programs of
    those runs, so parameters are kept under its name.
    """

    units: PositiveInt | None = None
    unit_kind: str = ""
    same_chip_as: str = ""
    target: str = Field(default="", description="CUDA compute capability or LLVM gfx target")
    boost_clock_hertz: Hertz | None = Field(default=None, alias="boost_clock")
    peak_clock_hertz: Hertz | None = Field(default=None, alias="peak_clock")
    tdp_watt: Watt | None = Field(default=None, alias="tdp")


class DtypeRates(Record):
    """Compute rates by datatype. A datatype without a hardware path, or without a known rate, is None.

    ``*_matrix`` is the rate of matrix units where it differs from the vector rate; the formats below fp32 are always
    the rates of matrix units.
    """

    fp64_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp64")
    fp64_matrix_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp64_matrix")
    fp32_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp32")
    fp32_matrix_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp32_matrix")
    tf32_flop_per_s: FlopPerSecond | None = Field(default=None, alias="tf32")
    fp16_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp16")
    bf16_flop_per_s: FlopPerSecond | None = Field(default=None, alias="bf16")
    fp8_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp8")
    fp4_flop_per_s: FlopPerSecond | None = Field(default=None, alias="fp4")
    int8_op_per_s: OpPerSecond | None = Field(default=None, alias="int8")

    def matmul_flop_per_s(self, dtype: MatmulDtype) -> float | None:
        """The best matrix-multiply rate for ``dtype``; None where the device has no such path or it is not known."""
        matrix = {"fp64": self.fp64_matrix_flop_per_s, "fp32": self.fp32_matrix_flop_per_s}.get(dtype)
        vector: float | None = getattr(self, f"{dtype}_flop_per_s")
        return matrix or vector


class Peaks(Sourced):
    """Peak rates of one device: dense, with fp32 accumulation.

    ``reduced_accumulate`` holds the higher rates that GeForce boards reach only when fp16 and fp8 products accumulate
    in fp16. Figures with 2:4 sparsity are never stored.
    """

    dense: DtypeRates
    reduced_accumulate: DtypeRates | None = None


class Memory(Sourced):
    """The memory of one device.

    ``capacity_bytes`` is what a program finds (as nvidia-smi or torch report it). ``sold_as`` is a trade name, not a
    quantity: vendors print GiB as GB.
    """

    capacity_bytes: Bytes | None = Field(default=None, alias="capacity")
    sold_as: str = ""
    type: Text
    bandwidth_byte_per_s: BytePerSecond = Field(alias="bandwidth")
    l2_bytes: Bytes | None = Field(default=None, alias="l2")
    last_level_bytes: Bytes | None = Field(default=None, alias="last_level")
    on_chip: str = ""


class PeerLink(Sourced):
    """The scale-up links of one device, one direction.

    ``per_device_byte_per_s`` is all links together, ``per_pair_byte_per_s`` what two devices get between each other
    (on a mesh, the links that join that pair; None where it is not known). ``link`` names an entry of the links.
    """

    link: Text
    links: PositiveInt | None = None
    per_device_byte_per_s: BytePerSecond = Field(alias="per_device")
    per_pair_byte_per_s: BytePerSecond | None = Field(default=None, alias="per_pair")
    topology: Topology

    @model_validator(mode="after")
    def _pair_within_device(self) -> Self:
        if self.per_pair_byte_per_s is not None and self.per_pair_byte_per_s > self.per_device_byte_per_s:
            raise ValueError("per_pair is above per_device, but a pair uses at most all links of a device")
        return self


class HostLink(Sourced):
    """The link between host memory and one device, one direction. ``link`` names an entry of the links."""

    link: str = ""
    type: Text
    bandwidth_byte_per_s: BytePerSecond = Field(alias="bandwidth")


class Node(Sourced):
    """The usual surroundings of a device.

    ``devices`` share one host; ``scale_up_domain`` devices reach each other over the scale-up links (NVL72: 4 and
    72). ``inter_node_byte_per_s`` is the network per device, one direction; ``network`` names an entry of the links.
    ``power_watt`` is the most that the host takes with its devices.
    """

    devices: PositiveInt
    scale_up_domain: PositiveInt
    inter_node_byte_per_s: BytePerSecond | None = Field(default=None, alias="inter_node")
    network: str = ""
    power_watt: Watt | None = Field(default=None, alias="power")


class Package(Sourced):
    """What the vendor sells as one piece and the framework sees as ``devices`` devices; figures of the whole piece."""

    devices: PositiveInt
    bf16_flop_per_s: FlopPerSecond = Field(alias="bf16")
    capacity_bytes: Bytes = Field(alias="capacity")
    bandwidth_byte_per_s: BytePerSecond = Field(alias="bandwidth")


class Price(Sourced):
    """What renting one device costs; indicative."""

    low_usd_per_hour: UsdPerHour = Field(alias="low")
    high_usd_per_hour: UsdPerHour = Field(alias="high")


class DeviceSpec(Record):
    """One accelerator or processor, as the framework sees it.

    ``names`` are exactly what ``torch.cuda.get_device_name`` or NVML print; ``cpu_models`` are regular expressions for
    the whole "model name" of /proc/cpuinfo. ``confidence`` says whether the peaks, memory size and bandwidth were read
    in the sources, partly, or recalled from memory.
    """

    id: Text
    kind: Literal["gpu", "accelerator", "cpu"]
    aliases: tuple[Text, ...] = ()
    names: tuple[Text, ...] = ()
    cpu_models: tuple[Text, ...] = ()
    vendor: Text
    architecture: Text
    architecture_family: ArchitectureFamily
    form_factor: Text
    confidence: Literal["read", "mixed", "recalled"]
    disagreements: str = ""
    notes: str = ""
    compute: Compute
    peaks: Peaks
    memory: Memory
    link: PeerLink | None = None
    host_link: HostLink | None = None
    node: Node
    package: Package | None = None
    price: Price | None = None

    @property
    def devices_per_package(self) -> int:
        """How many devices the framework sees in what the vendor sells as one piece."""
        return self.package.devices if self.package else 1

    def matmul_flop_per_s(self, dtype: MatmulDtype) -> float | None:
        """The dense matrix-multiply peak for ``dtype``; None where there is no such path or it is not known."""
        return self.peaks.dense.matmul_flop_per_s(dtype)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.architecture_family == "cpu") != (self.kind == "cpu"):
            raise ValueError(
                f"architecture_family = {self.architecture_family!r} does not go with kind = {self.kind!r}"
            )
        if self.kind != "cpu" and self.link is None and self.node.scale_up_domain > 1:
            raise ValueError(f"node.scale_up_domain = {self.node.scale_up_domain} needs a [link] table")
        if self.kind == "cpu" and self.names:
            raise ValueError("names are for GPUs; give a CPU cpu_models")
        if self.kind != "cpu" and self.cpu_models:
            raise ValueError('cpu_models is only for kind = "cpu"')
        for pattern in self.cpu_models:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"cpu_models: {pattern!r} is no regular expression: {error}") from error
        return self


class CollectiveTraits(Sourced):
    """What a collective takes over a link: time of each operation and step, and the share of the line rate it reaches.

    Attributes:
        op_s: of an operation, before its first step.
        step_s: of each step, as from one rank of a ring to the next.
        tree_step_s: of each step of a tree between nodes; None: ``step_s``.
        quick_step_s: the same where flags travel with the data, which take three quarters of the bandwidth; None where
            the library has no such protocol.
        share: of the line rate that large messages between many ranks reach.
        pair_share: the same between two ranks, which use fewer channels; None: ``share``.
        exchange_share: the same in an all-to-all; None: ``share``.
        peer_s: what each rank in another node adds to an all-to-all.
        ramp: exponent r of time = (steps^r + traffic^r)^(1/r), between 1/2, pieces of the best size that pass from rank
            to rank, and 1, a message that starts when the one before has ended; in between where faster protocols
            serve small messages.
        switch_op_s, switch_share: of an all-reduce that the switch adds up; None where it does not add.
        origin: measured, or assumed.
    """

    op_s: Seconds | None = Field(default=None, alias="op")
    step_s: Seconds = Field(alias="step")
    tree_step_s: Seconds | None = Field(default=None, alias="tree_step")
    quick_step_s: Seconds | None = Field(default=None, alias="quick_step")
    share: Share
    pair_share: Share | None = None
    exchange_share: Share | None = None
    peer_s: Seconds | None = Field(default=None, alias="peer")
    ramp: Annotated[float, Field(ge=0.5, le=1.0)]
    switch_op_s: Seconds | None = Field(default=None, alias="switch_op")
    switch_share: Share | None = None
    origin: Literal["measured", "assumed"]

    @model_validator(mode="after")
    def _adds_wholly(self) -> Self:
        if (self.switch_op_s is None) != (self.switch_share is None):
            raise ValueError("switch_op and switch_share belong together: a switch that adds has both")
        return self


class LinkSpec(Record):
    """One link technology: the bandwidth of one link in one direction, and the time until the first byte arrives.

    ``adds_in_switch`` says whether its switches add up what they pass on; a scale-up link has to say so, as sums then
    take half the traffic. ``protocols`` says whether the libraries that use it have faster protocols for small messages
    (NCCL's LL and LL128).
    """

    id: Text
    kind: Literal["scale_up", "host", "network"]
    aliases: tuple[Text, ...] = ()
    bandwidth_byte_per_s: BytePerSecond = Field(alias="bandwidth")
    latency_s: Seconds = Field(alias="latency")
    latency_origin: Origin
    adds_in_switch: bool | None = None
    protocols: bool = False
    collectives: CollectiveTraits
    notes: str = ""
    source: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _says_who_adds(self) -> Self:
        if self.kind == "scale_up" and self.adds_in_switch is None:
            raise ValueError("adds_in_switch is missing: say true where switches of this link add (NVLink SHARP)")
        if self.adds_in_switch and "adds_in_switch" not in self.source:
            raise ValueError("adds_in_switch = true needs its source")
        if bool(self.adds_in_switch) != (self.collectives.switch_share is not None):
            raise ValueError(
                "adds_in_switch = true goes with collectives.switch_op and switch_share, and false without"
            )
        return self


class ClusterSpec(Record):
    """A number of equal devices in equal nodes on one network. Rates are per device and one direction."""

    id: Text
    kind: Literal["cluster"] = "cluster"
    aliases: tuple[Text, ...] = ()
    device: DeviceSpec
    devices: PositiveInt
    devices_per_node: PositiveInt
    scale_up_domain: PositiveInt
    inter_node_byte_per_s: BytePerSecond | None = Field(default=None, alias="inter_node")
    network: str = ""
    notes: str = ""
    source: dict[str, str] = Field(min_length=1)

    @property
    def nodes(self) -> int:
        """Hosts in the cluster."""
        return self.devices // self.devices_per_node

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.devices % self.devices_per_node:
            raise ValueError(f"devices = {self.devices} is no multiple of devices_per_node = {self.devices_per_node}")
        if self.devices > self.scale_up_domain and self.nodes > 1 and self.inter_node_byte_per_s is None:
            raise ValueError("inter_node is missing, but the devices reach beyond one node and one scale-up domain")
        return self
