"""Which operations can be counted? The whole op table: kind -> forward, backward and update cost, bytes kept.

``OPS[kind](how, **shapes)`` is a pure function of shapes; ``register`` adds a kind, and refuses one that exists.
"""

from __future__ import annotations

from hwprof.count import matmul_ops, moe_ops, position_ops, update_ops, vector_ops
from hwprof.count.op import OPS, AttentionKernel, CostFunction, Device, Execution, Op, OpCost, register

__all__ = [
    "OPS",
    "AttentionKernel",
    "CostFunction",
    "Device",
    "Execution",
    "Op",
    "OpCost",
    "matmul_ops",
    "moe_ops",
    "position_ops",
    "register",
    "update_ops",
    "vector_ops",
]
