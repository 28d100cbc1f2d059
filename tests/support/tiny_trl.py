"""Trains a small Llama on CPUs with a file written for TRL, by its own parser and trainer; prints what was trained."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import torch  # noqa: E402 (after that)
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config  # noqa: E402

WORDS = 60


def main(file: str, folder: str) -> None:
    """Two steps; rows longer than the plan's sequence."""
    words = ["--config", file, "--output_dir", folder, "--report_to", "none", "--save_strategy", "no"]
    args, asked = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config(words)
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{index}": index + 3 for index in range(WORDS)}
    split = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=split, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    rows = [" ".join(f"w{(row + index) % WORDS}" for index in range(2 * args.max_length)) for row in range(64)]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=WORDS + 3, num_hidden_layers=2, max_position_embeddings=args.max_length, **sizes)
    config._attn_implementation = asked.attn_implementation
    shapes = []
    model = LlamaForCausalLM(config).to(getattr(torch, asked.dtype))
    model.model.register_forward_pre_hook(
        lambda *found: shapes.append(list(found[2]["input_ids"].shape)), with_kwargs=True
    )
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"text": rows}),
        processing_class=tokenizer,
        peft_config=get_peft_config(asked),
    )
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    trained = [name for name, each in trainer.model.named_parameters() if each.requires_grad]
    ranks = {each.shape[0] for name, each in trainer.model.named_parameters() if "lora_A" in name}
    sys.stdout.write(
        json.dumps(
            {
                "steps": trainer.state.global_step,
                "shapes": sorted({tuple(each) for each in shapes}),
                "passes": len(shapes),
                "modules": sorted({name.split(".lora_")[0].rpartition(".")[2] for name in trained}),
                "ranks": sorted(ranks),
                "recomputed": bool(trainer.model.is_gradient_checkpointing),
                "optimizer": type(trainer.optimizer.optimizer).__name__,
                "fused": trainer.optimizer.param_groups[0].get("fused"),
                "frozen": str(next(each.dtype for each in trainer.model.parameters() if not each.requires_grad)),
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[1]).parent / "outputs"))
