"""A block with RMSNorm, residuals and a gated product, compiled or not; --compile."""

import sys

import torch
from torch import nn
from torch.nn import functional

WIDTH, INNER, TOKENS = 512, 1536, 4096


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = nn.Linear(WIDTH, INNER, bias=False), nn.Linear(WIDTH, INNER, bias=False)
        self.w2 = nn.Linear(INNER, WIDTH, bias=False)
        self.norm = nn.RMSNorm(WIDTH)
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        h = x + self.o(functional.gelu(self.q(x)))
        y = self.norm(h)
        return h + self.w2(functional.silu(self.w1(y)) * self.w3(y))


def main():
    block = Block().cuda()
    model = torch.compile(block) if "--compile" in sys.argv else block
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(4):
        x = torch.randn(TOKENS, WIDTH, device="cuda", requires_grad=True)
        y = model(x)
        y.backward(torch.ones_like(y))
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
