"""The fused RMSNorm of more rows than a GPU holds, and launched dependently in a graph."""

from __future__ import annotations

import pytest
import torch
from every import every
from numeric import assert_same_results
from test_rms_norm import DTYPE_SETS, FUSED, NORM_EPS, Case


@pytest.mark.gpu
@every(dtypes=DTYPE_SETS, hidden_dim=[128, 2048, 7168])
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_more_rows_than_a_gpu_holds(backend, dtypes, hidden_dim):
    # With fewer, each row has more threads.
    case = Case((61, hidden_dim), *dtypes)
    case.x = case.x.repeat(5000 // 61 * 2048 // hidden_dim + 1, 1)
    if case.residual is not None:
        case.residual = case.residual.repeat(len(case.x) // 61, 1)
    case.check((backend, "cuda"), FUSED, 64)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_a_chain_in_a_graph(backend):
    # Each launch reads what the one before has just written, all but the first dependently.
    case = Case((8, 7168), *DTYPE_SETS["bfloat16, residual"])
    x, weight, residual = case.x.cuda(), case.weight.cuda(), case.residual.cuda()

    def layers(x, residual, backend):
        results = []
        for _ in range(20):
            results += FUSED(
                x, weight, 128, norm_eps=NORM_EPS, residual=residual, norm_out=x, backend=backend
            )
        return results

    wanted = [x.clone(), residual.clone()]
    expected = layers(*wanted, "reference")
    layers(x.clone(), residual.clone(), backend)
    graph = torch.cuda.CUDAGraph()
    given = [x.clone(), residual.clone()]
    with torch.cuda.graph(graph):
        results = layers(*given, backend)
    graph.replay()
    for i in range(0, len(results), 2):
        assert_same_results(results[i : i + 2], expected[i : i + 2])
    assert all(map(torch.equal, given, wanted))
