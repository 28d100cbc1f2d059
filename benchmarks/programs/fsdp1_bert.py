"""transformers' BERT under the first FSDP on two ranks: `torchrun --nproc-per-node=2`."""

import json

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers import BertConfig, BertForMaskedLM
from transformers.models.bert.modeling_bert import BertLayer

BATCH, LENGTH = 3, 20
dist.init_process_group("gloo")
torch.manual_seed(0)
model = BertForMaskedLM(
    BertConfig(vocab_size=101, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=60)
)
count = sum(one.numel() for one in model.parameters())
model = FullyShardedDataParallel(
    model, auto_wrap_policy=ModuleWrapPolicy({BertLayer}), use_orig_params=True, device_id=torch.device("cpu")
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(30):
    ids = torch.randint(101, (BATCH, LENGTH))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
if dist.get_rank() == 0:
    print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": BATCH * LENGTH}))
dist.destroy_process_group()
