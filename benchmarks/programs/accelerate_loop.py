"""A loop of accelerate's, with a scheduler and accumulation, on a small Llama whose embedding is frozen."""

import json

import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM

BATCH, LENGTH, ACCUMULATED = 2, 40, 3
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=120, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )
)  # fmt: skip
model.model.embed_tokens.weight.requires_grad_(False)
count = sum(one.numel() for one in model.parameters())
trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), lr=1e-3)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
loader = torch.utils.data.DataLoader(torch.randint(120, (40 * BATCH * ACCUMULATED, LENGTH)), batch_size=BATCH)
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for ids in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(input_ids=ids, labels=ids).loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
print("TRUTH" + json.dumps({"parameters": count, "trainable": trained, "tokens": BATCH * LENGTH * ACCUMULATED}))
