"""Lightning: one callback. Run: python examples/lightning_trainer.py [DIRECTORY]."""

import sys

import lightning
import torch
from torch import nn

from hwprof.adapters.lightning import HwprofCallback


class Autoencoder(lightning.LightningModule):
    """Learns to copy its input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.GELU())
        self.decoder = nn.Linear(256, 64)

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        (rows,) = batch
        return (self.decoder(self.encoder(rows)) - rows).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def main(directory: str) -> None:
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(320, 64)), batch_size=8)
    callback = HwprofCallback(output=directory)
    trainer = lightning.Trainer(
        max_steps=40,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=1,
    )
    trainer.fit(Autoencoder(), loader)
    print(callback.profile.summary())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/lightning-trainer")
