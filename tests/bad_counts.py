"""What is no tensor, and no ``masked_m``, as in ``bad_values``."""

from __future__ import annotations

import numpy
import torch

# No tensor, a tensor of the wrong kind: for x, q, s and both parts of out alike.
NO_TENSOR = [
    (None, TypeError, "must be a torch.Tensor, got NoneType"),
    ([[1.0]], TypeError, "must be a torch.Tensor, got list"),
    ("x", TypeError, "must be a torch.Tensor, got str"),
    (1.0, TypeError, "must be a torch.Tensor, got float"),
    (numpy.ones((4, 256), numpy.float32), TypeError, "must be a torch.Tensor, got ndarray"),
    (torch.float32, TypeError, "must be a torch.Tensor, got dtype"),
]


def bad_masked_m(batches: int) -> list:
    counts = torch.ones(batches, dtype=torch.int64)
    return [
        *NO_TENSOR,
        *(
            (counts.to(dtype), TypeError, f"must have a dtype of .*, got {dtype}")
            for dtype in (torch.float32, torch.int16, torch.uint8, torch.bool)
        ),
        (counts.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
        (counts[0], ValueError, r"must have at least one dimension, got shape \(\)"),
        (counts[None], ValueError, rf"must have shape .*got \(1, {batches}\)"),
        (torch.ones(4, dtype=torch.int32), ValueError, r"got \(4,\); .*m_indices.* without"),
        (counts.to("meta"), ValueError, "must be on the rows' device cpu, got meta"),
    ]
