"""Which claims on a GPU can be tried on one that the CPU plays, and why not the others?"""

import pytest
import torch

HERE = torch.cuda.is_available()


def only_with_a_gpu(reason):
    """Not on a played one, and why."""
    return pytest.mark.skipif(not HERE, reason=f"no CUDA device is visible: {reason}")


ASYNCHRONOUS = only_with_a_gpu("a CPU computes before its call returns; tests/played/test_device.py plays the clock")
FAST = only_with_a_gpu("how fast a CPU multiplies and moves says nothing of a GPU")
ITS_TIMES = only_with_a_gpu("a played kernel takes what the CPU takes for it, beside whatever else runs there")
ITS_ALLOCATOR = only_with_a_gpu("the played one holds no tensors, so that its peak is made up")
ITS_KERNELS = only_with_a_gpu("what CUDA's kernels compute is known to them alone")
