"""Which operations can be counted? The whole op table: kind -> forward, backward and update cost, bytes kept.

``OPS[kind](how, **shapes)`` is a pure function of shapes; ``register`` adds a kind, and refuses one that exists.
"""

from __future__ import annotations

from hwprof.count.ops import matmul as matmul_ops
from hwprof.count.ops import moe as moe_ops
from hwprof.count.ops import position as position_ops
from hwprof.count.ops import update as update_ops
from hwprof.count.ops import vector as vector_ops
from hwprof.count.ops.operation import OPS, AttentionKernel, CostFunction, Device, Execution, Op, OpCost, register

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
