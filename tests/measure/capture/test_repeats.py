"""Layers that do not run because an equal one did: what is captured is, event for event, what is captured of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captured_types import saved
from other_types import OTHER_TYPES
from small_transformers import DECODER, MLA, OWN_HEADS, SIDES, TOKENS
from torch import nn

from hwprof.measure.capture.configured import NOTHING_FROZEN, Frozen, subject_of_config
from hwprof.measure.capture.fake import make_fake, weightless
from hwprof.measure.capture.inputs import Asked
from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject
from hwprof.specs.record.captured import Capture, TensorView, Value

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair


def without_memory(value: Value) -> Value:
    """An argument without the numbers of its memory, which differ from one capture to the next."""
    if isinstance(value, TensorView):
        return replace(value, storage=0)
    return tuple(map(without_memory, value)) if isinstance(value, tuple) else value


def events(seen: Capture) -> list[Any]:
    return [
        (
            placed.place,
            placed.direction,
            placed.call.name,
            {name: without_memory(value) for name, value in placed.call.arguments.items()},
            tuple(map(without_memory, placed.call.results)),
        )
        for placed in seen.calls
    ]


_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_PATTERNED: dict[str, tuple[str, dict[str, Any], int]] = {
    "gated delta": ("qwen3_next", OTHER_TYPES["gated delta"][2], 2),
    "state space, attention, experts": ("jamba", OTHER_TYPES["state space, attention, experts"][2], 2),
    "one part a layer": (
        "nemotron_h",
        DECODER
        | {"layers_block_type": ["mamba", "moe", "attention", "mamba", "moe", "mamba"], "num_hidden_layers": 6}
        | {"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 16, "n_groups": 1, "chunk_size": 8}
        | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
        | {"moe_shared_expert_intermediate_size": 24, "n_group": 1, "topk_group": 1},
        3,
    ),
    "state space beside attention": ("falcon_h1", OTHER_TYPES["state space beside attention"][2], 1),
    "short convolution": ("lfm2", OTHER_TYPES["short convolution"][2], 1),
    "shared keys, embeddings in every layer": (
        "gemma3n_text",
        DECODER
        | {"num_hidden_layers": 12, "head_dim": 8, "vocab_size_per_layer_input": 61, "hidden_size_per_layer_input": 8}
        | {
            "num_kv_shared_layers": 6,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": [0.0] * 12,
        }
        | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 4, "intermediate_size": 48},
        6,
    ),
    "shared blocks": (
        "zamba2",
        OWN_HEADS
        | {"num_hidden_layers": 6, "layer_types": ["mamba", "mamba", "hybrid"] * 2, "hybrid_layer_ids": [2, 5]}
        | {"mamba_d_state": 16, "mamba_headdim": 8, "n_mamba_heads": 8, "chunk_size": 8, "attention_hidden_size": 64}
        | {"num_mem_blocks": 1, "num_key_value_heads": 4},
        2,
    ),
    "shared layers": ("albert", OTHER_TYPES["shared layers"][2], 0),
    "sparse attention": (
        "deepseek_v32",
        MLA | {"num_hidden_layers": 4, "q_lora_rank": 16, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8},
        2,
    ),
    "encoder-decoder": (
        "marian",
        SIDES
        | TOKENS
        | {"encoder_attention_heads": 4, "max_position_embeddings": 64, "encoder_layers": 3}
        | {"decoder_layers": 3},
        4,
    ),
    "places that all layers read": (
        "deberta-v2",
        OTHER_TYPES["disentangled attention"][2] | {"num_hidden_layers": 4, "norm_rel_ebd": "layer_norm"},
        3,
    ),
    "bias in every layer": ("umt5", OTHER_TYPES["bias in every layer"][2], 3),
    "images": ("vit", _TOWER | {"image_size": 16, "patch_size": 4}, 2),
}
"""Layers -> type, keys, and how many of them need not run."""

_SEEN: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "images and tokens": (
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": DECODER
            | {"vocab_size": 300, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8}
            | {"out_hidden_size": 32, "fullatt_block_indexes": [2], "window_size": 32},
            "image_token_id": 200,
        },
        4,
    ),
    "layers that look at images": (
        "mllama",
        "MllamaForConditionalGeneration",
        {
            "text_config": DECODER | {"num_hidden_layers": 5, "cross_attention_layers": [1, 3], "pad_token_id": 0},
            "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "attention_heads": 4}
            | {"image_size": 16, "patch_size": 8, "max_num_tiles": 2, "num_global_layers": 1, "vision_output_dim": 64}
            | {"intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [1, 2]]},
        },
        4,
    ),
    "sound": (
        "wav2vec2",
        "Wav2Vec2ForCTC",
        _TOWER
        | {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
        | {"vocab_size": 32, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
        2,
    ),
}
"""Layers of models that read images or sound -> type, class, keys, and how many of them need not run."""

_CLASSES = {"marian": "MarianMTModel", "vit": "ViTForImageClassification", "zamba2": "Zamba2ForCausalLM"} | {
    "nemotron_h": "NemotronHForCausalLM",
    "gemma3n_text": "Gemma3nForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM",
    "deberta-v2": "DebertaV2ForMaskedLM",
}


def both(
    folder: Path, layers: str, monkeypatch: pytest.MonkeyPatch, frozen: Frozen = NOTHING_FROZEN, **how: Any
) -> tuple[Capture, Capture, int]:
    """All layers run; those that have to; and how many had not to."""
    kind, keys, _ = _PATTERNED[layers]
    name = _CLASSES.get(kind) or OTHER_TYPES[layers][1]
    path = saved(folder, kind, name, keys)
    repeated = counted(monkeypatch)
    found = []
    for whole in (True, False):
        subject = subject_of_config(path, Asked(batch_size=2, seq_len=8), "fp32", frozen)
        found.append(capture(subject, whole=whole, **how))
    return found[0], found[1], len(repeated)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each layer that did not run in the last try."""
    found: list[int] = []
    begin, repeat = CallRecorder.mark_parameters, CallRecorder.repeat

    def begun(recorder: CallRecorder, numbers: set[int]) -> None:
        found.clear()
        begin(recorder, numbers)

    def repeated(recorder: CallRecorder, *args: Any) -> None:
        found.append(1)
        repeat(recorder, *args)

    monkeypatch.setattr(CallRecorder, "mark_parameters", begun)
    monkeypatch.setattr(CallRecorder, "repeat", repeated)
    return found


@pytest.mark.parametrize("layers", _PATTERNED)
def test_layers_that_did_not_run_are_captured_as_if_they_had(
    layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, short, repeated = both(tmp_path, layers, monkeypatch)
    assert events(short) == events(whole)
    assert short.kept == whole.kept
    assert short.parameters == whole.parameters
    assert repeated == _PATTERNED[layers][2]


@pytest.mark.parametrize("layers", _SEEN)
def test_so_are_those_of_models_that_read_images_or_sound(
    layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name, keys, alike = _SEEN[layers]
    path = saved(tmp_path, kind, name, keys)
    sound = kind == "wav2vec2"
    asked = Asked(batch_size=2, seq_len=400 if sound else 24, images=None if sound else (1, 32, 32))
    repeated = counted(monkeypatch)
    whole, short = (capture(subject_of_config(path, asked), whole=each) for each in (True, False))
    assert (events(short), short.kept, short.parameters) == (events(whole), whole.kept, whole.parameters)
    assert len(repeated) == alike


def test_layers_that_become_others_in_the_first_pass_are_compared_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = counted(monkeypatch)
    found = []
    for attention in ("original_full", "block_sparse"):  # of short sequences the second is the first
        keys = OWN_HEADS | {"num_hidden_layers": 3, "attention_type": attention} | {"attention_probs_dropout_prob": 0.0}
        path = saved(tmp_path, "big_bird", "BigBirdForCausalLM", keys)
        subject = subject_of_config(path, Asked(batch_size=2, seq_len=8))
        found.append(capture(subject, whole=attention == "original_full"))
    assert events(found[0]) == events(found[1])
    assert len(repeated) == 2


@pytest.mark.parametrize("layers", ["sparse attention", "state space beside attention"])
def test_copies_of_weights_and_frozen_weights_are_captured_so_too(
    layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how in ({"autocast": torch.bfloat16}, {"frozen": Frozen(all=True), "backward": False}):
        whole, short, repeated = both(tmp_path, layers, monkeypatch, **how)
        assert (events(short), short.kept, short.parameters) == (events(whole), whole.kept, whole.parameters)
        assert repeated


class Layer(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.linear = nn.Linear(8, 8)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given + self.linear(given)


class Model(nn.Module):
    """A chain of layers."""

    def __init__(self, kind: Any = Layer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(number) for number in range(4))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            given = layer(given)
        return given


class LooksAtItsNumber(Layer):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return super().forward(given) if self.number % 2 else self.linear(given)


class LooksAtAMark(Layer):
    mark = False

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return super().forward(given) if self.mark else self.linear(given)


class Marks(Model):
    def __init__(self) -> None:
        super().__init__(LooksAtAMark)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            layer.mark = number == 2
            given = layer(given)
            del layer.mark
        return given


class Remembers(Layer):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.last = super().forward(given)
        return self.last


class Writes(Layer):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return super().forward(given).add_(given.mul_(2))


_HEARD: list[torch.Tensor] = []


class Tells(Layer):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inside = self.linear(given)
        _HEARD.append(inside)
        return given + inside


class Listens(Model):
    def __init__(self) -> None:
        super().__init__(Tells)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        _HEARD.clear()
        result = super().forward(given)
        return result + torch.stack(_HEARD).sum(0)


class UsesWhatIsBetween(Model):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        between = [given := layer(given) for layer in self.layers]
        return sum(between[1:], start=between[0])


class SharesWeights(Model):
    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.linear.weight = self.layers[0].linear.weight


class SharesATransposed(Model):
    """Its layers read one tensor as it does not lie in memory, so that gradients of it lie otherwise, too."""

    def __init__(self) -> None:
        super().__init__(ReadsAnother)
        self.key = nn.Linear(8, 8)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        key = self.key(given).view(2, 2, 4).transpose(0, 1)
        for layer in self.layers:
            given = layer(given, key)
        return given


class ReadsAnother(Layer):
    def forward(self, given: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return super().forward(given) + key.contiguous().view(2, 8)


class RunsTwice(Model):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(given))


def looks() -> nn.Module:
    return Model(LooksAtItsNumber)


def remembers() -> nn.Module:
    return Model(Remembers)


def writes() -> nn.Module:
    return Model(Writes)


def hooked() -> nn.Module:
    model = Model()
    for layer in model.layers:
        layer.linear.register_forward_hook(lambda _module, _given, found: found * 2)
    return model


@pytest.mark.parametrize(
    ("factory", "alike"),
    [(Model, 2), (SharesATransposed, 2)]
    + [
        (factory, 0)
        for factory in (looks, Marks, remembers, writes, hooked, Listens, UsesWhatIsBetween, SharesWeights, RunsTwice)
    ],
)
def test_layers_that_may_not_do_the_same_all_run(factory: Any, alike: int, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = counted(monkeypatch)
    found = []
    for whole in (True, False):
        with weightless():
            model = factory()
        mode = make_fake(model)
        with mode:
            given = torch.ones(2, 8)
        found.append(capture(Subject(name="model", module=model, arguments=(given,), fake=mode), whole=whole))
    assert events(found[0]) == events(found[1])
    assert found[0].kept == found[1].kept
    assert found[0].parameters == found[1].parameters
    assert len(repeated) == alike
