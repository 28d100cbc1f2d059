"""Lightning's Trainer on its own demonstration of a Transformer."""

import json
import tempfile

import lightning
import torch
from lightning.pytorch.demos import Transformer

BATCH, LENGTH = 3, 35


class Language(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Transformer(vocab_size=80, ninp=32, nhead=2, nhid=64, nlayers=2)

    def training_step(self, batch, _place):
        (ids,) = batch
        output = self.model(ids, ids)
        return torch.nn.functional.nll_loss(output.reshape(-1, output.shape[-1]), ids.reshape(-1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


module = Language()
data = torch.utils.data.TensorDataset(torch.randint(80, (40 * BATCH, LENGTH)))
with tempfile.TemporaryDirectory() as folder:
    lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, torch.utils.data.DataLoader(data, batch_size=BATCH))  # fmt: skip
count = sum(one.numel() for one in module.parameters())
print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": BATCH * LENGTH}))
