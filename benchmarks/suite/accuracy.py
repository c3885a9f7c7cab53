"""How much quantization loses, and whether all backends give the same bytes."""

from __future__ import annotations

import itertools

from . import common

TOKENS, HIDDEN = 256, 1024


def _normal(torch, generator):
    return torch.randn(TOKENS, HIDDEN, generator=generator)


def _heavy_tailed(torch, generator):
    # Student's t with three degrees of freedom.
    squares = torch.randn(3, TOKENS, HIDDEN, generator=generator).square()
    return _normal(torch, generator) / squares.mean(0).sqrt()


def _outlier_channels(torch, generator):
    # As activations of language models: a few channels are far larger in every token.
    x = _normal(torch, generator)
    x[:, torch.randperm(HIDDEN, generator=generator)[: HIDDEN // 100]] *= 50
    return x


DATA = {
    "normal": _normal,
    "heavy_tailed": _heavy_tailed,
    "outlier_channels": _outlier_channels,
}


def setup_cache() -> dict:
    """Compare each backend with the reference on the CPU, and that with its input."""
    import torch

    import ptgq

    def differing_bytes(backend, workload, x, expected):
        if backend == "reference" and common.no_device():
            return common.NotAvailable("without a CUDA device it would be compared with itself")
        if common.missing(backend):
            return common.missing(backend)
        on_device = x if backend == "cpu" else x.cuda()
        actual = workload.call(on_device, backend=backend)
        differing = common.measuring("agreement").differing_bytes
        return sum(differing(a, b.cpu()) for a, b in zip(expected, actual, strict=True))

    results = {}
    for (data, make), group, scale_format in itertools.product(
        DATA.items(), common.GROUP_SIZES, common.FORMATS
    ):
        generator = torch.Generator().manual_seed(42)
        x = make(torch, generator).to(torch.bfloat16)
        workload = common.workload(TOKENS, HIDDEN, group, scale_format)
        q, s = workload.call(x, backend="reference")
        error = ptgq.dequantize(q, s, group).double() - x.double()
        relative = (error.square().sum() / x.double().square().sum()).sqrt().item()
        results["error", data, group, scale_format] = relative
        for backend in common.BACKENDS:
            results["bytes", backend, data, group, scale_format] = common.attempt(
                lambda b=backend, w=workload, x=x, e=(q, s): differing_bytes(b, w, x, e)
            )
    return results


setup_cache.timeout = 300


class Accuracy:
    """The reference, whose bytes all backends must give."""

    version = "1"
    unit = "relative RMS error"
    params = (tuple(DATA), common.GROUP_SIZES, tuple(common.FORMATS))
    param_names = ("data", "group", "format")
    setup_cache = staticmethod(setup_cache)

    def track_relative_rms_error(self, results, *params):
        """Error of dequantize(quantize(x)), relative to x."""
        return common.result_of(results[("error", *params)])


class ByteIdentity:
    """A wrong kernel shows here, on the record, whatever its speed."""

    version = "1"
    unit = "bytes"
    params = (common.BACKENDS, *Accuracy.params)
    param_names = ("backend", *Accuracy.param_names)
    setup_cache = staticmethod(setup_cache)

    def track_differing_bytes(self, results, *params):
        """Bytes of q and s that differ from the reference on the CPU: must be 0."""
        return common.result_of(results[("bytes", *params)])
