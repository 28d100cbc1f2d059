"""A loop of one's own: three lines more (marked ←), and a report. Run: python examples/own_loop.py [DIRECTORY]."""

import sys

import torch
from torch import nn

import hwprof


class Model(nn.Module):
    """A small Transformer; hwprof takes any module."""

    def __init__(self, vocabulary: int = 256, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


def main(directory: str) -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    loader = (torch.randint(0, 256, (8, 33)) for _ in range(40))

    with hwprof.profile(model, optimizer, output=directory) as prof:  # ←
        for batch in loader:
            logits = model(batch[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            prof.step()  # ←

    print(prof.summary())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/own-loop")
