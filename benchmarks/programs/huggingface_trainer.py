"""transformers' Trainer on a small GPT-2, with gradient accumulation."""

import json
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

BATCH, LENGTH, ACCUMULATED = 4, 32, 2


class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, place):
        ids = torch.randint(100, (LENGTH,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": ids, "labels": ids}


model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=48, n_layer=2, n_head=4))
with tempfile.TemporaryDirectory() as folder:
    settings = TrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUMULATED,
        max_steps=30,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model=model, args=settings, train_dataset=Texts()).train()
count = sum(one.numel() for one in model.parameters())
print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": BATCH * LENGTH * ACCUMULATED}))
