"""float32 inputs: every exponent of an absmax, both sides of each decision, every quotient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from proofs import oracle
from proofs.formats import Format
from proofs.oracle import FLOAT32
from proofs.report import Report

EXPONENTS = range(255)


def random_absmaxes(exponent: int, count: int, device: str) -> torch.Tensor:
    """Return `count` random magnitudes of one exponent, the first and the last of it among them."""
    generator = torch.Generator().manual_seed(exponent)
    fraction = torch.randint(0, 1 << 23, (count,), generator=generator)
    fraction[0], fraction[-1] = 0, (1 << 23) - 1
    return (fraction + (exponent << 23)).to(device)


def _as_floats(keys: torch.Tensor) -> torch.Tensor:
    return keys.to(torch.int32).view(torch.float32)


def prove_scales(
    report: Report,
    device: str,
    backends: Iterable[str],
    formats: Iterable[Format],
    *,
    eps: float = 1e-10,
    group_size: int = 1,
    mantissas: int = 1 << 20,
    exponents: Sequence[int] = EXPONENTS,
) -> None:
    """Check the scales of random absmaxes of every exponent."""
    formats, backends = tuple(formats), tuple(backends)
    what = f"{len(exponents)} exponents, {mantissas} mantissas each, groups of {group_size}"
    lines = report.lines_for("scales", f"{what}, eps {eps:g}", backends, formats)
    for exponent in exponents:
        absmax = random_absmaxes(exponent, mantissas, device)
        x = torch.zeros(mantissas, group_size, device=device)
        x[:, exponent % group_size] = _as_floats(absmax) * (-1) ** exponent

        def describe(at: Sequence[int], absmax: torch.Tensor = absmax) -> str:
            return f"absmax 0x{absmax[at[0]].item():08x}"

        for fmt in formats:
            bits = oracle.scale_bits(absmax, eps, fmt.codes.qmax, fmt.power_of_two)
            stored = fmt.expected_scales(bits, 1)
            for backend in backends:
                _, s = fmt.quantize(x, group_size, eps, backend)
                line = lines[backend, fmt.name]
                line.compare("s", fmt.stored(s), stored, describe)
                line.checked += mantissas
    report.show(lines)


def prove_decisions(
    report: Report,
    device: str,
    backends: Iterable[str],
    formats: Iterable[Format],
    *,
    eps: float = 1e-24,
    group_size: int = 512,
    mantissas: int = 1 << 8,
    exponents: Sequence[int] = EXPONENTS,
) -> None:
    """Check the two float32 values at which each code of a group begins, with both signs.

    A group holds its absmax and, for each threshold up to it, the last magnitude before and the
    first one after.
    """
    formats, backends = tuple(formats), tuple(backends)
    what = f"{len(exponents)} exponents, {mantissas} mantissas each, groups of {group_size}"
    lines = report.lines_for("decisions", f"{what}, eps {eps:g}", backends, formats)
    for exponent in exponents:
        absmax = random_absmaxes(exponent, mantissas, device)
        for fmt in formats:
            bits = oracle.scale_bits(absmax, eps, fmt.codes.qmax, fmt.power_of_two)
            first = oracle.thresholds(bits, fmt.codes, FLOAT32)
            own_code = (first <= absmax[:, None]).sum(1, keepdim=True)
            keys = torch.stack((first - 1, first), 2).flatten(1)
            steps = torch.arange(first.shape[1] + 1, device=device).repeat_interleave(2)[1:-1]
            # Where no finite value reaches a threshold, it is infinity.
            possible = (first < oracle.FLOAT32_INFINITY).repeat_interleave(2, 1)
            reached = possible & (keys <= absmax[:, None])
            keys = torch.where(reached, keys, absmax[:, None])
            codes = torch.where(reached, steps, own_code).to(torch.uint8)
            own_code = own_code.to(torch.uint8)
            padding = (len(absmax), group_size - 2 * keys.shape[1])
            x = _as_floats(torch.cat((absmax[:, None].expand(padding), keys, keys), 1))
            x[:, -keys.shape[1] :].neg_()
            negative = fmt.codes.signed(codes, True)
            expected = torch.cat((own_code.expand(padding), codes, negative), 1)
            stored = fmt.expected_scales(bits, 1)

            def describe(
                at: Sequence[int], absmax: torch.Tensor = absmax, x: torch.Tensor = x
            ) -> str:
                value = x.view(torch.int32)[tuple(at)].item() & 0xFFFFFFFF
                return f"absmax 0x{absmax[at[0]].item():08x}, value 0x{value:08x}"

            for backend in backends:
                q, s = fmt.quantize(x, group_size, eps, backend)
                line = lines[backend, fmt.name]
                line.compare("q", q.view(torch.uint8), expected, describe)
                line.compare("s", fmt.stored(s), stored, describe)
                line.checked += 2 * keys.numel()
    report.show(lines)


def prove_quotients(
    report: Report,
    device: str,
    backends: Iterable[str],
    formats: Iterable[Format],
    *,
    eps: float = 1e-10,
    group_size: int = 128,
    chunk: int = 1 << 20,
    stride: int = 1,
) -> None:
    """Check every float32 of magnitude up to qmax in groups whose scale is 1: both signs.

    So the conversion to a code sees every float32 that can be a quotient. Of `stride` chunks of
    values, one is checked.
    """
    formats, backends = tuple(formats), tuple(backends)
    lines = report.lines_for(
        "quotients", f"scale 1, groups of {group_size}, eps {eps:g}", backends, formats
    )
    one = torch.tensor([oracle.float32_bits(1.0)], device=device)
    size = chunk // (group_size - 1) * (group_size - 1)
    for fmt in formats:
        qmax = oracle.float32_bits(float(fmt.codes.qmax))
        first = oracle.thresholds(one, fmt.codes, FLOAT32)[0].tolist()
        for start in range(0, qmax + 1, size * stride):
            stop = min(start + size, qmax + 1)
            keys = torch.arange(start, start + size, dtype=torch.int32, device=device)
            codes = oracle.codes_of_range(first, start, size, device)
            # Past qmax: padding.
            keys[stop - start :], codes[stop - start :] = 0, 0
            own = torch.tensor([qmax], dtype=torch.int32, device=device)
            own_code = torch.tensor([len(fmt.codes.values) - 1], device=device).to(torch.uint8)
            for negative in (False, True):
                values = keys | -(1 << 31) if negative else keys
                x = _with_first(values, own, group_size).view(torch.float32)
                expected = _with_first(fmt.codes.signed(codes, negative), own_code, group_size)

                def describe(at: Sequence[int], x: torch.Tensor = x) -> str:
                    return f"quotient 0x{x.view(torch.int32)[tuple(at)].item() & 0xFFFFFFFF:08x}"

                for backend in backends:
                    q, s = fmt.quantize(x, group_size, eps, backend)
                    line = lines[backend, fmt.name]
                    line.compare("q", q.view(torch.uint8), expected, describe)
                    line.compare(
                        "s", fmt.stored(s), fmt.expected_scales(one.expand(len(x)), 1), describe
                    )
                    line.checked += stop - start
    report.show(lines)


def _with_first(values: torch.Tensor, own: torch.Tensor, group_size: int) -> torch.Tensor:
    """Return groups ``[groups, group_size]`` of values, each led by its absmax."""
    rows = values.view(-1, group_size - 1)
    return torch.cat((own.expand(len(rows), 1), rows), 1)
