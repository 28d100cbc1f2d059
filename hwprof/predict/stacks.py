"""Which software trained? They differ in what they overlap, fuse and launch."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hwprof.specs.job.schedules import Schedule
from hwprof.specs.job.switches import Framework, Storage, Switches
from hwprof.specs.model.sharing import without_gathering
from hwprof.specs.model.spec import ModelSpec

Reading = Literal["allocator", "reserved", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A family of training software that shares kernels and ways of overlapping.

    Attributes:
        name: of the stack, as parameter files name it.
        family: stacks that are alike; what is not known of one is taken from the family.
        switches: fields of a job that it sets unless a person says otherwise.
        assumed_zero_stage: sharding where a run does not say.
        dropout: share of elements dropped where a run does not say.
        reading: what its memory figures are where a run does not say: the allocator's peak, what the allocator has
            reserved, or the device's (nvidia-smi).
        overlaps_gradients: whether gradients are reduced while backward goes on.
        schedules: of a pipeline that it can run. gpipe takes as long as 1f1b and holds more; zb-h1 and dualpipe are in
            no released stack. These have to be asked for by name.
        zero_stages_in_pipeline: ZeRO stages that it combines with a pipeline. Most stop at 1, since 2 and 3 would
            reduce or gather for every micro-batch (DeepSpeed refuses them, Megatron-Core's distributed optimizer is
            stage 1).
        fills_pipeline: whether a pipeline has as many micro-batches as stages where a run does not say (torchtitan's
            ``pipeline_parallel_microbatches``); else a micro-batch is a sequence.
        splits_stream: whether tensor ranks split the residual stream whatever a run says of sequence parallelism
            (MaxText shards its width).
        shares_experts: whether tensor ranks always share the matrices of experts (MaxText shards their width).
        unties: whether a tied head gets a table of its own (litgpt's ``lm_head``).
        launches_by_expert: whether the host launches the products of each expert one by one (Transformer Engine's
            ``multi_stream_cublas_gemm``, which Megatron-Core's grouped products call).
        flash: the kernel that its ``flash`` means, where it is not the usual one of the device.
        versions: where some of its versions differ from ``switches``; memory's interval spans them.
    """

    name: str
    family: str
    switches: Switches
    assumed_zero_stage: Literal[0, 1, 2, 3] = 0
    dropout: float = 0.0
    reading: Reading = "allocator"
    overlaps_gradients: bool = True
    schedules: tuple[Schedule, ...] = ("1f1b", "interleaved")
    zero_stages_in_pipeline: tuple[int, ...] = (0, 1)
    fills_pipeline: bool = False
    splits_stream: bool = False
    shares_experts: bool = False
    unties: bool = False
    launches_by_expert: bool = False
    flash: Literal["flash-1"] | None = None
    versions: tuple[Switches, ...] = ()

    def trained(self, model: ModelSpec) -> ModelSpec:
        """A model as it stores and splits it."""
        if model.captured and self.switches.get("framework") == "megatron-core":
            model = _split_whole(model)
        return model.changed(tied_embeddings=False) if self.unties else model

    def compiling(self, compiled: bool | None) -> Switches:
        """Its switches with a compiler or without; None = as usual.

        Compiled kernels are fused. Without a compiler only those of a stack with kernels of its own are.
        """
        if compiled is None:
            return self.switches
        own = self.switches.get("fused", True) and not self.switches.get("compiled", False)
        return self.switches | Switches(compiled=compiled, fused=compiled or own)


@functools.lru_cache(maxsize=64)
def _split_whole(model: ModelSpec) -> ModelSpec:
    """Where a plan of a captured class gathers, tensor ranks split all the same."""
    assert model.captured
    split = without_gathering(model.captured, d_model=model.d_model, vocab_size=model.vocab_size)
    return model if split == model.captured else model.changed(captured=split)


MEGATRON = Switches(storage="mixed", framework="megatron-core", adapter_library="megatron")
BENCHMARKED = MEGATRON | Switches(gradient_bytes=2, fp8_all_gather=True, async_tensor_parallel=True)
"""NVIDIA's published runs of Megatron-Bridge and NeMo: gradients are reduced in bf16, weights stored in fp8 (their
performance scripts set ``grad_reduce_in_fp32=False``, their fp8 recipes ``fp8_param_gather=True``), and tensor ranks'
traffic runs beside products (``tp_comm_overlap``). From 26.06 on they capture graphs and overlap experts' traffic."""

TORCH = Switches(
    storage="autocast",
    framework="torch",
    fused=False,
    loss="plain",
    optimizer_implementation="foreach",
    fp8_saved=False,
    selective=("products",),
    repeats_kv=True,
)
"""PyTorch as it comes: eager kernels, AdamW over lists of tensors. torchao's float8 products keep 16-bit operands."""

NARROWED = TORCH | Switches(storage="narrowed")
PURE = TORCH | Switches(storage="pure", wide_norms=True, optimizer_implementation="fused")

LITGPT = PURE | Switches(loss="chunked-head", adapter_library="litgpt")

TITAN = NARROWED | Switches(
    compiled=True,
    fused=True,
    wide_norms=True,
    optimizer_implementation="fused",
    selective=("op-list",),
    pipeline_outputs=True,
)
"""torchtitan as it was measured, until 2025; since then it can compile the loss and drop a pipeline's outputs. It does
not reshard weights in a pipeline (``fsdp_reshard_after_forward``)."""

XLA = Switches(
    prefetch_layers=0,
    storage="narrowed",
    framework="xla",
    compiled=True,
    fused=True,
    loss="fused",
    optimizer_implementation="fused",
    fp8_saved=False,
    selective=("products",),
)
"""XLA lets a gradient take the place of logits that nothing reads any more."""

DEEPSPEED = TORCH | Switches(
    storage="mixed",
    framework="deepspeed",
    gradient_bytes=2,
    wide_norms=True,
    optimizer_implementation="fused",
    offload_each_micro_batch=True,
)
"""A model of transformers under DeepSpeed's ZeRO."""

HUGGINGFACE = TORCH | Switches(wide_norms=True, optimizer_implementation="fused", loss="returned")
"""transformers' own models under its Trainer, older TRL, axolotl or LLaMA-Factory."""

NANOTRON = TORCH | Switches(storage="mixed", gradient_bytes=4, repeats_kv=False, optimizer_implementation="fused")


def _megatron(name: str, switches: Switches = MEGATRON) -> Stack:
    return Stack(name=name, family="megatron", switches=switches, assumed_zero_stage=1, launches_by_expert=True)


def _deepspeed(name: str, keeper: Framework, *, dropout: float = 0.0, fused: bool = True) -> Stack:
    """Megatron-DeepSpeed and its kin: narrow gradients, no reduction beside backward."""
    own = Switches(storage="mixed", framework=keeper, gradient_bytes=2, fused=fused)
    own["optimizer_implementation"] = "fused" if fused else "foreach"
    return Stack(
        name=name,
        family="megatron-deepspeed",
        switches=own,
        dropout=dropout,
        reading="device",
        overlaps_gradients=False,
    )


def _torch(name: str, switches: Switches, *, in_pipeline: int = 3, **more: Any) -> Stack:
    """Programs on PyTorch; in a pipeline their ZeRO stages go up to ``in_pipeline``."""
    return Stack(
        name=name,
        family="torch",
        switches=switches,
        assumed_zero_stage=3,
        schedules=("1f1b", "interleaved", "zb-v"),
        zero_stages_in_pipeline=tuple(range(in_pipeline + 1)),
        fills_pipeline=True,
        **more,
    )


def _xla(name: str) -> Stack:
    """Programs that XLA compiles: weights are stored wide, a layer works on narrow copies."""
    return Stack(
        name=name,
        family="jax",
        switches=XLA,
        assumed_zero_stage=3,
        splits_stream=True,
        shares_experts=True,
        zero_stages_in_pipeline=(0, 1, 2, 3),
    )


STACKS = (
    _megatron("megatron-core", MEGATRON | Switches(cuda_graphs=True)),
    _megatron("megatron-core-eager"),
    _megatron("nemo-23"),
    _megatron("nemo-24", BENCHMARKED),
    _megatron("megatron-bridge", BENCHMARKED),
    _megatron("megatron-bridge-26.06", BENCHMARKED | Switches(expert_overlap=True, cuda_graphs=True)),
    Stack(name="megatron-lm", family="megatron", switches=MEGATRON, dropout=0.1),
    _deepspeed("megatron-deepspeed", "megatron-deepspeed", dropout=0.1),
    _deepspeed("megatron-deepspeed-bigscience", "megatron-deepspeed", dropout=0.1),
    _deepspeed("internevo", "internevo", fused=False),
    _torch("torch", TORCH),
    _torch("fsdp", NARROWED),
    _torch("llm-foundry", NARROWED | Switches(loss="compiled"), flash="flash-1"),
    _torch(
        "torchtitan",
        TITAN,
        reading="reserved",
        in_pipeline=2,
        versions=(Switches(loss="compiled", pipeline_outputs=False),),
    ),
    _torch(
        "torchtune", PURE | Switches(loss="chunked", adapter_library="torchtune"), versions=(Switches(loss="plain"),)
    ),
    _torch("litgpt", LITGPT, unties=True),
    _torch("huggingface", HUGGINGFACE),
    _torch("trl", HUGGINGFACE | Switches(loss="fused-linear")),
    _torch("unsloth", HUGGINGFACE | Switches(fused=True, wide_norms=False, repeats_kv=False, loss="fused-linear")),
    _torch("deepspeed", DEEPSPEED),
    _torch("xtuner", NARROWED | Switches(wide_norms=True)),
    _torch("nanotron", NANOTRON),
    _xla("maxtext"),
    _xla("paxml"),
    _xla("jax"),
    Stack(name="native", family="native", switches=Switches(storage="mixed"), assumed_zero_stage=1),
)
"""``megatron-core``: as its current recipes run it, with graphs captured (``--cuda-graph-impl``);
``megatron-core-eager``: without them. ``torch``: a loop of one's own with DDP or autocast; ``fsdp``: FSDP with its
mixed precision; ``llm-foundry``: the same with flash-attn's cross-entropy, as it was benchmarked in 2023 (flash-attn
1.0, also in the triton version that was its default); ``jax``: others on XLA; ``trl``: TRL from
1.16, whose trainers run head and loss together on tiles of 4,096 tokens (``trl.kernels.chunked_logprob``); ``unsloth``:
transformers with kernels of its own for norms, rotations and activations, and a loss that never holds whole logits;
``native``: hand-written kernels (llm.c). torch's pipelines are ``torch.distributed.pipelining``. InternEvo's chains of
elementwise operations are kernels of their own. BigScience's fork runs DeepSpeed's own pipeline engine."""

USUAL_STACKS: Mapping[Storage, str] = {
    "mixed": "megatron-core",
    "autocast": "torch",
    "narrowed": "fsdp",
    "pure": "huggingface",
}
"""Whose software is meant where only a storage is said."""

_BY_NAME = {stack.name: stack for stack in STACKS}

_PRODUCTS: tuple[tuple[str, str], ...] = (
    ("bigscience", "megatron-deepspeed-bigscience"),
    ("megatron-deepspeed", "megatron-deepspeed"),
    ("internevo", "internevo"),
    ("colossal", "megatron-deepspeed"),
    ("te 2", "megatron-core-eager"),
    ("megatron-bridge", "megatron-bridge"),
    ("nemo", "nemo"),
    ("megatron-core", "megatron-core"),
    ("primus", "megatron-core"),
    ("megatron", "megatron-lm"),
    ("maxtext", "maxtext"),
    ("paxml", "paxml"),
    ("levanter", "jax"),
    ("jax", "jax"),
    ("llm.c", "native"),
    ("torchtitan", "torchtitan"),
    ("torchtune", "torchtune"),
    ("litgpt", "litgpt"),
    ("lit-gpt", "litgpt"),
    ("xtuner", "xtuner"),
    ("nanotron", "nanotron"),
    ("llm-foundry", "llm-foundry"),
    ("composer", "llm-foundry"),
    ("fms-fsdp", "fsdp"),
    ("deepspeed", "deepspeed"),
    ("unsloth", "unsloth"),
    ("hugging", "huggingface"),
    ("transformers", "huggingface"),
    ("axolotl", "huggingface"),
    ("llama-factory", "huggingface"),
    ("trl", "huggingface"),
    ("flash-attention training scripts", "torch"),
    ("pytorch ddp", "torch"),
)
"""Words in a framework's name, first match first."""

_GENERIC: tuple[tuple[str, str], ...] = (("fsdp", "fsdp"), ("", "torch"))
"""What stands for a framework whose name has none of these."""


def framework_known(framework: str) -> bool:
    """Whether a word of the name says which stack it is; else ``stack_named`` takes PyTorch's."""
    lowered = framework.lower()
    return lowered in _BY_NAME or any(word in lowered for word in ("fsdp", *(word for word, _ in _PRODUCTS)))


_VERSION = re.compile(r"\d+\.\d+|\b\d\d\b")


def stack_named(framework: str) -> Stack:
    """The stack of a framework's name: of its releases the last up to the asked one; PyTorch where nothing is known.

    >>> stack_named("Megatron-Bridge 26.08 NeMo Container").name
    'megatron-bridge-26.06'
    """
    lowered = framework.lower()
    if lowered in _BY_NAME:
        return _BY_NAME[lowered]
    product = next(stack for word, stack in (*_PRODUCTS, *_GENERIC) if word in lowered)
    releases = sorted((_number(name, 0.0), name) for name in _BY_NAME if re.fullmatch(rf"{product}(-[\d.]+)?", name))
    asked = _number(lowered, float("inf"))
    return _BY_NAME[next((name for number, name in reversed(releases) if number <= asked), releases[0][1])]


def _number(text: str, otherwise: float) -> float:
    found = _VERSION.search(text)
    return float(found.group()) if found else otherwise
