"""What do the words of a table of published runs mean? One vocabulary for each column; what is in none is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Meaning = Mapping[str, Any]
"""Fields of a job or of its layout, and what they become."""

_FILLER = re.compile(
    r"a|and|as|at|by|ce|cpu|cross-entropy|data|dcn|default|for|from|full|gradient|gradients|head|"
    r"hybrid|in|inferred|kernel|layer|layers|loss|mixed|mixed_precision|of|on|optimizer|or|over|"
    r"per|plain|policy|precision|quantized|recipe|same|scales|scaling|slice|slices|"
    r"state|states|the|to|torch|two|with|within|x"
)
"""Words that say nothing by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a cell says.

    Attributes:
        meaning: of all of its words that are known.
        unknown: the words that are not.
    """

    meaning: dict[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words of a column: patterns, earlier ones first; of two that set one field the earlier wins.

    Attributes:
        column: its name.
        entries: a pattern, and what it means.
    """

    column: str
    entries: tuple[tuple[str, Meaning], ...]

    def read(self, text: str) -> Read:
        """What a cell means; case and punctuation say nothing."""
        left, meaning = text.lower(), dict[str, Any]()
        for pattern, means in self.entries:
            left, found = re.subn(pattern, " ", left)
            if found:
                meaning = dict(means) | meaning
        words = re.findall(r"[a-z][a-z0-9_.+-]*", left)
        return Read(meaning=meaning, unknown=tuple(word for word in words if not _FILLER.fullmatch(word.strip("-._"))))


PRECISION = Vocabulary(
    column="precision",
    entries=(
        (r"(fp8|float8)[ -]all[- ]?gather", {"fp8_all_gather": True}),
        (r"bf16[ -]all[- ]?gather", {"fp8_all_gather": False}),
        (r"fp32[ -]grad\w*([ -]accumulation)?", {"gradient_bytes": 4}),
        (r"fp32 (master weights|optimizer states?)", {}),
        (r"\b(nv|mx)?(fp|float)4\b", {"dtype": "fp4"}),
        (r"\bmx-?fp8\b|\bfp8-mx\b|\bmx\b|\b32x32\b", {"dtype": "fp8", "fp8_recipe": "mxfp8"}),
        (r"\bfp8-cs\b|\bcurrent scaling\b", {"dtype": "fp8", "fp8_recipe": "tensorwise"}),
        (r"\bfp8-ds\b|\bdelayed( scaling)?\b", {"dtype": "fp8", "fp8_recipe": "delayed"}),
        (r"\bfp8-sc\b|\bblock-?wise\b|\bsub-?channel\b|\b128x128\b", {"dtype": "fp8", "fp8_recipe": "blockwise"}),
        (r"\brow-?wise\b|\bper[ -](row|token)\b|\baxiswise\b", {"dtype": "fp8", "fp8_recipe": "rowwise"}),
        (r"\btensor-?wise\b|\bper[ -]tensor\b", {"dtype": "fp8", "fp8_recipe": "tensorwise"}),
        (r"\b(amp_)?(fp8|float8)(_full)?\b|\be4m3(fn)?\b|\be5m2\b|\bf8\b", {"dtype": "fp8"}),
        (r"\bint8\b", {"dtype": "fp8"}),
        (r"\bmixed_precision=pure\b", {"gradient_bytes": 2}),
        (r"\bpure\b|\b(bf)?16-true\b", {"storage": "pure"}),
        (r"\b(amp_)?(bf16|bfloat16)(-mixed)?\b", {"dtype": "bf16"}),
        (r"\b(amp_)?(fp16|float16|half)(-mixed)?\b|\b16-mixed\b", {"dtype": "fp16"}),
        (r"\btf32\b", {"dtype": "tf32"}),
        (r"\b(fp32|float32|single|32-true)\b", {"dtype": "fp32"}),
        (r"\bfsdp\b|\bte\b|\btransformer engine\b|\btorchao\b|\bcublas\b|\bautocast\b|\bamp\b", {}),
        (r"\bother quantization granularity\b", {}),
    ),
)
"""The narrowest format of a cell comes first: ``fp8 (rowwise, bf16 all-gather)`` multiplies in 8 bits."""

_HALF = {"recompute": "full", "recomputed_share": 0.5}

RECOMPUTE = Vocabulary(
    column="recompute",
    entries=(
        (r"\bevery (other|second|2nd) layers?\b|\(layer\)|\bselective layer\b", _HALF),
        (r"\bsave_dot_with_context_except_mlp\b", {"recompute": "selective", "selective": ("layernorm", "mlp")}),
        (r"\bminimal_(with_context|flash)\b", {"recompute": "selective", "selective": ("products",)}),
        (r"\bminimal\b", {"recompute": "selective", "selective": ("products-without-attention",)}),
        (r"\b(per-)?op( sac)?\b|\bop-list\b", {"recompute": "selective", "selective": ("op-list",)}),
        (r"\bproducts\b", {"recompute": "selective", "selective": ("products",)}),
        (r"\bselective\b", {"recompute": "selective"}),
        (r"\bfull\b|\byes\b|\bactivation checkpointing\b|\bgradient checkpointing\b", {"recompute": "full"}),
        (r"^none\b|^no\b|^off\b|^false\b", {"recompute": "none"}),
    ),
)
"""Policies by name: MaxText's ``remat_policy`` (``minimal`` keeps products of weights, ``minimal_with_context``
attention's results too), torchtitan's ``selective_ac_option``. Megatron-Core's modules are read apart."""

ATTENTION = Vocabulary(
    column="attention_impl",
    entries=(
        (
            r"\bunfused\b( \(fused softmax( kernel)?\))?|\beager\b|\bmath\b|\bnaive\b|\bmaterialised\b",
            {"attention": "materialised"},
        ),
        (r"\b(flash|fa)[ -]?(attention)?[ -]?4\b", {"attention": "flash-4"}),
        (r"\b(flash|fa)[ -]?(attention)?[ -]?3\b", {"attention": "flash-3"}),
        (r"\b(flash|fa)[ -]?(attention)?[ -]?2\b", {"attention": "flash-2"}),
        (r"\b(flash|fa)[ -]?(attention)?[ -]?1\b", {"attention": "flash-1"}),
        (r"\bcudnn\b", {"attention": "cudnn"}),
        (r"\bsdpa\b|\bxformers\b|\bmemory[ -]efficient\b", {"attention": "torch-sdpa"}),
        (r"\bflash(-?attention|_attn)?\b|\bsplash\b|\btokamax\b|\bflex\b|\bte\b|\bpacked\b", {"attention": "flash"}),
        (r"\bcp a2a\b|\bulysses\b", {"context_kind": "ulysses"}),
        (r"\bcp all-?gather\b", {"context_kind": "all-gather"}),
        (r"\+ fused kernels\b", {"fused": True, "loss": "fused"}),
    ),
)

OFFLOAD = Vocabulary(
    column="offload",
    entries=(
        (r"^none\b|^no\b", {}),
        (r"\boptim\w*", {"optimizer": True}),
        (r"\bweights?\b|\bparam\w*", {"weights": True}),
        (r"\bactivations?\b|\bdecoder_layer_input\b|\b(query|key|value|out)_proj\b", {"activations": True}),
        (r"\bnvme\b", {"offload_to": "nvme"}),
        (r"\bhost\b|\boffload\w*", {}),
    ),
)

SHARDING = Vocabulary(
    column="zero_stage_or_fsdp",
    entries=(
        (r"\bno overlap\b", {"overlap": False}),
        (r"\bfp32 grad\w*( accumulation)?", {"gradient_bytes": 4}),
        (r"\bshard_grad_op\b|\bzero-?2\b", {"zero_stage": 2}),
        (r"\bfull_shard\b|\bzero-?3\b|\b(megatron-)?fsdp2?\b|\bhsdp\b|\bhybrid_shard\b", {"zero_stage": 3}),
        (r"\bzero-?1\b|\bdistributed[_ ](optimizer|fused_adam)\b|\bbf16optimizer\b", {"zero_stage": 1}),
        (r"\bnone\b|\bddp\b|\bno_shard\b|\bplain dp\b", {"zero_stage": 0}),
        (
            r"\bdp\d*\b|\bshards?\b|\bnode\b|\branks?\b|\ball\b|\bjax\b|\bdevices\b|\bchip\b|\b2d\b|\bmoe\b|\brecipes\b",
            {},
        ),
        (r"\bfsdp_transpose\b|\bfsdp/\b|\bsome\b", {}),
    ),
)

COMPILE = Vocabulary(
    column="compile",
    entries=(
        (r"^(yes|true|on)\b|\btorch\.compile\b|\binductor\b|\bxla\b|\bjit\b", {"compiled": True}),
        (r"^(no|false|off)\b|\beager\b", {"compiled": False}),
    ),
)

OPTIMIZER = Vocabulary(
    column="optimizer",
    entries=(
        (r"\bpaged[_-]?", {"optimizer_paged": True}),
        (r"\b(adamw?[_-]?)?(bnb[_-]?)?w?_?8[ _-]?bit\b", {"optimizer": "adamw-8bit"}),
        (r"\bfused[_ ]?adamw?\b|\badamw_torch_fused\b", {"optimizer": "adamw", "optimizer_implementation": "fused"}),
        (r"\bfused\b", {"optimizer_implementation": "fused"}),
        (r"\bforeach\b", {"optimizer_implementation": "foreach"}),
        (r"\bfor-loop\b", {"optimizer_implementation": "for-loop"}),
        (r"\bin[_ -]backward\b|\bin[_-]bwd\b", {"update_in_backward": True}),
        (r"\badamw(_torch|_hf|_32bit)?\b", {"optimizer": "adamw"}),
        (r"\badam\b", {"optimizer": "adam"}),
        (r"\bsgd\b", {"optimizer": "sgd"}),
        (r"\badafactor\b", {"optimizer": "adafactor"}),
        (r"\blion\b", {"optimizer": "lion"}),
        (r"\bmuon\b", {"optimizer": "muon"}),
    ),
)

LOSS = Vocabulary(
    column="fused_loss",
    entries=(
        (r"\bfused[- ]linear\b|\bliger\b|\bcut[- ]cross[- ]entropy\b|\bcce\b", {"loss": "fused-linear"}),
        (r"\bchunked\b", {"loss": "chunked"}),
        (r"\bcompiled?\b", {"loss": "compiled"}),
        (r"^(yes|true)\b|\bfused\b", {"loss": "fused"}),
        (r"^(no|false)\b|\bplain\b|\beager\b", {"loss": "plain"}),
    ),
)

MODULES = re.compile(r"\b(core_attn|layernorm|mlp|moe_act|moe|shared_experts|mla_up_proj|attention)\b")
"""Megatron-Core's modules among the words of recompute."""

VOCABULARIES = (PRECISION, RECOMPUTE, ATTENTION, OFFLOAD, SHARDING, COMPILE, OPTIMIZER, LOSS)
