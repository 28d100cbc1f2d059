"""torchtitan's Llama 3 under FSDP2 on two ranks: `torchrun --nproc-per-node=2`."""

import json

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torchtitan.models.llama3 import Transformer, TransformerModelArgs

BATCH, LENGTH = 2, 32
dist.init_process_group("gloo")
torch.manual_seed(0)
model = Transformer(TransformerModelArgs(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=112, max_seq_len=64))
with torch.no_grad():
    model.init_weights()
count = sum(one.numel() for one in model.parameters())
for layer in model.layers.values():
    fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(30):
    tokens = torch.randint(112, (BATCH, LENGTH))
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()
if dist.get_rank() == 0:
    print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": BATCH * LENGTH}))
dist.destroy_process_group()
