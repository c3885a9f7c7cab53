"""What quantizing rows and columns of masked rows gives, computed batch by batch."""

from __future__ import annotations

import torch

from ptgq import scales

FP8 = torch.float8_e4m3fn
# What results hold before: nothing that a kernel writes.
KEPT = 0x55


def quantized(x, group_size, f, saturate):
    """Return codes and float32 scales of the groups of rows: the numerics contract."""
    groups = x.float().unflatten(-1, (-1, group_size))
    counted = groups.where(groups.isfinite(), 0) if saturate else groups
    absmax = counted.abs().amax(-1)
    scale = absmax.clamp(min=1e-10) / torch.tensor(448.0)
    if f.power_of_two:
        mantissa, exponent = torch.frexp(scale)
        scale = torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())
    scale = scale.where(absmax.isfinite(), torch.nan)
    y = (groups / scale.unsqueeze(-1)).clamp(-448, 448)
    codes = y.to(FP8).view(torch.uint8).masked_fill(y.isnan(), 0x7F)
    return codes.flatten(-2), scale


def empty_of(x, group_size, f):
    """Return results (q, s, q_t, s_t) that hold other bytes than any kernel writes."""
    tokens = -(-x.shape[-2] // group_size) * group_size
    results = []
    for shape in (tuple(x.shape), (*x.shape[:-2], x.shape[-1], tokens)):
        q = torch.full(shape, KEPT, dtype=torch.uint8, device=x.device).view(FP8)
        s = scales.empty_scales(scales.scale_shape(shape, group_size, f), f, x.device)
        scales.memory_of(s, f).view(torch.uint8).fill_(0xA5)
        results += [q, s]
    return tuple(results)


def masked_of(x, group_size, f, counts, saturate=False):
    """Return (q, s, q_t, s_t): of each batch, what its first rows alone give."""
    results = empty_of(x.cpu(), group_size, f)
    q, s, q_t, s_t = results
    tokens, hidden_dim = x.shape[-2:]
    batches = x.cpu().reshape(-1, tokens, hidden_dim)
    of_rows = torch.zeros(len(batches), tokens, hidden_dim // group_size)
    of_columns = torch.zeros(len(batches), hidden_dim, q_t.shape[-1] // group_size)
    codes = q.view(torch.uint8).view(batches.shape)
    codes_t = q_t.view(torch.uint8).zero_().view(len(batches), hidden_dim, -1)
    for batch, (rows, count) in enumerate(zip(batches, counts.tolist(), strict=True)):
        rows = rows[: max(0, count)]
        count, groups = len(rows), -(-len(rows) // group_size)
        if count == 0:
            continue
        codes[batch, :count], of_rows[batch, :count] = quantized(rows, group_size, f, saturate)
        columns = torch.nn.functional.pad(rows.T, (0, groups * group_size - count))
        found, of_columns[batch, :, :groups] = quantized(columns, group_size, f, saturate)
        codes_t[batch, :, :count] = found[:, :count]
    scales.store_scales(of_rows.view(*x.shape[:-1], -1), s, f)
    scales.store_scales(of_columns.view(*q_t.shape[:-1], -1), s_t, f)
    return results
