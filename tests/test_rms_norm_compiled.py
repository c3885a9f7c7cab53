"""The fused RMSNorm in compiled and exported code."""

from __future__ import annotations

import pytest
import torch
from numeric import assert_same_results
from test_rms_norm_op import FUSED, FUSED_INT8, GROUP, HIDDEN, OPS, call, op_of, operands


@pytest.mark.parametrize("suffix", OPS)
def test_opcheck(suffix):
    op, device = op_of(suffix)
    x, weight, residual, norm_out = operands(device)
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    q = torch.zeros(6, HIDDEN, dtype=torch.uint8, device=device)
    s = torch.zeros(6, HIDDEN // GROUP, device=device)
    for written in ((None, None), (residual, norm_out)):
        checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
        # The same registration serves all: once is enough of what takes seconds.
        if suffix == "" and written[0] is not None:
            checks.append("test_aot_dispatch_dynamic")
        arguments = x, q, s, GROUP, 1e-10, 0, weight, 1e-6, *written, False
        torch.library.opcheck(op.default, arguments, test_utils=checks)


def test_compiled(backend_on):
    backend, device = backend_on
    torch._dynamo.reset()

    def run(x, weight, residual, in_place):
        norm_out = x if in_place else torch.empty_like(x)
        q, s = call(FUSED, x, weight, residual, norm_out, backend=backend)
        # They are negated after the call, so that what was written is seen.
        return q, s, -norm_out, -residual

    for in_place in (False, True):
        # What inductor makes of it is the same on each backend: where x is read and written.
        inductor = in_place and backend in ("cpu", "cuda")
        compiler = "inductor" if inductor else "aot_eager"
        compiled = torch.compile(run, fullgraph=True, backend=compiler)
        for rows in (6,) if inductor else (6, 4):
            x, weight, residual, _ = operands(device, rows=rows)
            wanted = [t.clone() for t in (x, residual)]
            results = run(wanted[0], weight, wanted[1], in_place)
            q, s, y, r = compiled(x, weight, residual, in_place)
            assert_same_results((q, s), results[:2])
            assert torch.equal(y, results[2])
            assert torch.equal(r, results[3])
            assert torch.equal(x, wanted[0])
            assert torch.equal(residual, wanted[1])


class Layer(torch.nn.Module):
    """A norm with its weight, that updates what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(operands()[1])

    def forward(self, x, residual):
        return call(FUSED_INT8, x, self.weight, residual, x)


def test_exported():
    tokens = torch.export.Dim("tokens")
    x, _, residual, _ = operands()
    shapes = {"x": {0: tokens}, "residual": {0: tokens}}
    layer = Layer()
    given = x.clone(), residual.clone()
    program = torch.export.export(layer, given, dynamic_shapes=shapes, strict=False)
    targets = [node.target for node in program.graph.nodes]
    assert torch.ops.ptgq.rms_norm_per_token_group_quant.default in targets
    for rows in (6, 1):
        given, wanted = ([t[:rows].clone() for t in (x, residual)] for _ in range(2))
        assert_same_results(program.module()(*given), layer(*wanted))
        assert all(map(torch.equal, given, wanted))


def test_the_same_tensor_twice_is_refused_while_traced():
    x, weight, residual, _ = operands()
    for written in (lambda x, r: (x, None), lambda x, r: (r, r)):

        def run(x, residual, written=written):
            return call(FUSED, x, weight, *written(x, residual))

        with pytest.raises(Exception, match=r"must not overlap .* in memory"):
            torch.compile(run, fullgraph=True, backend="aot_eager")(x, residual)
