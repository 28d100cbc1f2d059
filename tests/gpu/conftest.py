"""On what do the tests of this room run? On the machine's GPU; where there is none, on one that the CPU plays."""

import pytest
import torch
from played.device import Gpus
from played.nvml import played_nvml
from played.profile import played_profile
from played.small import small_probes
from played.tensors import tensors_on_cpu


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """Nothing where a GPU is visible, else one that is played all through the module."""
    if torch.cuda.is_available():
        yield
        return
    gpus = Gpus()
    with pytest.MonkeyPatch.context() as patch:
        small_probes(patch)
        played_profile(patch)
        played_nvml(patch)
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            yield
