"""The probe on CUDA kernels: `pytest -m gpu` on a machine with a device."""

import pytest
import torch
from test_probe import Attend, agree, random_inputs, reference, run
from torch.nn.attention import SDPBackend, sdpa_kernel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

KERNELS = {
    "flash": (SDPBackend.FLASH_ATTENTION, torch.bfloat16),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, torch.float32),
    "efficient bf16": (SDPBackend.EFFICIENT_ATTENTION, torch.bfloat16),
    "cudnn": (SDPBackend.CUDNN_ATTENTION, torch.bfloat16),
    "math": (SDPBackend.MATH, torch.float32),
}


@pytest.mark.parametrize("grad", ["inference", "no_grad", "autograd"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_statistics_are_exact_from_the_same_queries_and_keys(kernel, causal, grad):
    backend, dtype = KERNELS[kernel]
    q, k, v = (x.to("cuda", dtype) for x in random_inputs(queries=64, keys=64, width=64, sharpness=3.0))
    groups = torch.randint(0, 3, (2, 64), generator=torch.Generator().manual_seed(0))
    with sdpa_kernel(backend):
        [stats] = run(Attend(4), q, k, v, None, causal, groups=groups, grad=grad)
    entropy, mass, support = reference(q.cpu(), k.cpu(), causal=causal, groups=groups)
    agree(stats.entropy.cpu(), entropy, 2e-5)
    agree(stats.mass.cpu(), mass, 5e-6)
    assert torch.equal(stats.support.cpu().expand(2, 4, 64), support.expand(2, 4, 64))
