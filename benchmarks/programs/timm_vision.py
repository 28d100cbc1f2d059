"""timm's vision transformer, optimizer and schedule, in a loop by hand; images, no tokens."""

import json

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

BATCH = 4
model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10, depth=2)
optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
schedule = CosineLRScheduler(optimizer, t_initial=30)
criterion = timm.loss.LabelSmoothingCrossEntropy()
for step in range(30):
    images, labels = torch.randn(BATCH, 3, 64, 64), torch.randint(10, (BATCH,))
    loss = criterion(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step(step)
count = sum(one.numel() for one in model.parameters())
print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": None, "samples": BATCH}))
