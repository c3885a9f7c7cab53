"""What dequantize returns, by float64, and tensors to give it."""

from __future__ import annotations

import torch
from numeric import bits


def expected_of(q, s, group_size, dtype):
    """The product by float64, which holds it exactly."""
    q, s = q.cpu(), s.cpu().resolve_neg()
    if s.dtype is not torch.float32:
        as_bytes = torch.empty(s.shape, dtype=s.dtype).copy_(s).view(torch.uint8)
        exponents = as_bytes[..., : q.shape[-1] // group_size].double()
        s = torch.where(exponents == 255, torch.nan, (exponents - 127).exp2())
    product = q.float().double() * s.double().repeat_interleave(group_size, -1)
    return product.float().to(dtype)


def assert_same(y, expected):
    """Equal bits, but for those of a NaN, which are a device's."""
    assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
    nan = expected.isnan()
    assert torch.equal(y.cpu().isnan(), nan)
    assert torch.equal(bits(y).masked_fill(nan, 0), bits(expected).masked_fill(nan, 0))


def codes_of(shape, q_dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).view(q_dtype)


def strided(t, stride):
    return torch.empty_strided(t.shape, stride, dtype=t.dtype).copy_(t)
