"""What goes into models without a reader: as their files say, and what is said where that is not enough."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captured_types import saved
from other_types import OTHER_TYPES
from small_transformers import DECODER, multiplied, transformers
from torch.utils.flop_counter import FlopCounterMode

import hwprof.session.captured as session
from hwprof.count.blocks.parameters import parameters
from hwprof.count.blocks.transformer import Precision, model_ops
from hwprof.count.inference.serving import Serving
from hwprof.count.job.totals import total_cost
from hwprof.errors import InputError
from hwprof.session.captured import Shapes, counted_generation, counted_model
from hwprof.session.capturing.generation import CapturedGeneration
from hwprof.session.capturing.passes import Pass
from hwprof.specs.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, LENGTH = 2, 16


def captured(path: Path, *, seq_len: int = LENGTH) -> ModelSpec:
    return counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=seq_len, dtype="fp32"))


def test_a_length_beyond_learned_positions_says_how_many_there_are(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["pair of towers"]
    path = saved(tmp_path, kind, name, keys)
    longest = transformers.CONFIG_MAPPING[kind](**keys).text_config.max_position_embeddings
    with pytest.raises(InputError, match=rf"can't take 999 tokens; its positions end at {longest}; take --seq-len"):
        captured(path, seq_len=999)


def test_less_sound_than_one_frame_says_how_to_give_more(tmp_path: Path) -> None:
    """25 ms: Baevski et al. 2020, appendix A."""
    keys = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    path = saved(tmp_path, "wav2vec2", "Wav2Vec2ForCTC", keys)
    with pytest.raises(InputError, match=r"399 samples of sound are less than the 400.*--seconds 10"):
        captured(path, seq_len=399)


def test_a_model_of_videos_reads_the_frames_that_its_file_says(tmp_path: Path) -> None:
    keys = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "crop_size": 32, "frames_per_clip": 4}
    keys |= {"pred_hidden_size": 32, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2, "patch_size": 16}
    spec = captured(saved(tmp_path, "vjepa2", "VJEPA2Model", keys))
    module = transformers.VJEPA2Model._from_config(
        transformers.VJEPA2Config(**keys), attn_implementation="eager"
    ).eval()
    given = {"pixel_values_videos": torch.ones(BATCH, 4, 3, 32, 32)}
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())
    ops = model_ops(spec, batch_size=BATCH, seq_len=LENGTH, precision=Precision.of("fp32"))
    assert total_cost(ops, "forward").matmul_flop == multiplied(lambda: module(**given))[0] > 0


def test_what_a_class_refuses_is_told_with_what_it_got(tmp_path: Path) -> None:
    """Dia's decoder takes nine codes at each place, which no key common to others says."""
    side = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    both = {"num_key_value_heads": 2, "cross_head_dim": 16, "cross_num_attention_heads": 2, "cross_hidden_size": 32}
    keys = {"encoder_config": side, "decoder_config": side | both | {"cross_num_key_value_heads": 2}}
    with pytest.raises(InputError, match=r"it got input_ids=2x16:int64, decoder_input_ids=2x16:int64; .* --input"):
        captured(saved(tmp_path, "dia", "DiaForConditionalGeneration", keys))


EXPERTS_IN_SIDES = {
    "nllb-moe": {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
    "switch_transformers": {"num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 48}
    | {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
}


@pytest.mark.parametrize("kind", EXPERTS_IN_SIDES)
def test_two_sides_with_experts_generate(kind: str, tmp_path: Path) -> None:
    keys = {"d_model": 32, "vocab_size": 64, "num_experts": 4, "expert_capacity": 64} | EXPERTS_IN_SIDES[kind]
    config = transformers.CONFIG_MAPPING[kind](**keys)
    module = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": kind, "architectures": [type(module).__name__]} | keys))
    shapes = Shapes(batch_sizes=(2,), seq_len=8, target_len=1)
    found = counted_generation(str(path), shapes, steps=2, serving=Serving(dtype="bf16"))
    assert isinstance(found, CapturedGeneration)
    ids = torch.full((2, 8), 5)
    with FlopCounterMode(display=False) as counter:
        module(input_ids=ids, decoder_input_ids=ids[:, :1])
    assert found.work.prefill.cost.matmul_flop == counter.get_total_flops()
    grown = found.work.last_step.cost.matmul_flop - found.work.first_step.cost.matmul_flop
    assert grown == 2 * 2 * (2 * 2 * 32)  # sequences, decoder layers, both products of one more token
    assert found.work.cache.cross_bytes == 2 * 2 * 2 * 8 * 32 * 2  # keys and values of each side's 8 tokens, in bf16
    # NLLB's class makes a mask of its mask: its first expert takes what was sent to the others, and its second the rest
    assert ("times as much in its experts" in found.spec.notes) == (kind == "nllb-moe")


def test_the_text_model_stands_for_a_class_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Llama 4's does in transformers 5.24: what fails is said, and images that are asked for are not left out."""

    def fails(*_: Any, **__: Any) -> None:
        raise InputError("gemma3 raised AttributeError while it was captured")

    monkeypatch.setattr(Pass, "of", fails)
    monkeypatch.setattr(session, "_decoded", fails)
    text = DECODER | {"head_dim": 8}
    path = str(saved(tmp_path, "gemma3", "Gemma3ForConditionalGeneration", {"text_config": text, "vision_config": {}}))
    shapes = Shapes(batch_sizes=(1,), seq_len=LENGTH)
    module = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**text))
    serving = Serving(dtype="bf16")
    for found in (counted_model(path, shapes), counted_generation(path, shapes, steps=1, serving=serving)):
        assert isinstance(found, ModelSpec)
        assert found.captured is None
        assert "The class of the whole fails here (gemma3 raised AttributeError" in found.notes
        assert parameters(found).total == sum(weight.numel() for weight in module.parameters())
    with pytest.raises(InputError, match="AttributeError"):
        counted_model(path, replace(shapes, images=(1, 32, 32)))
