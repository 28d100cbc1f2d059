"""Hugging Face Trainer: one callback. Run: python examples/huggingface_trainer.py [DIRECTORY]."""

import sys
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from hwprof.adapters.huggingface import HwprofCallback


def main(directory: str) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 256, (8, 32))]
    callback = HwprofCallback(output=directory)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            max_steps=40,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        Trainer(model, arguments, train_dataset=rows, callbacks=[callback]).train()
    print(callback.profile.summary())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/huggingface-trainer")
