"""The proof itself: its oracle against exact fractions, and that it finds a wrong byte."""

from __future__ import annotations

import json
import random
from bisect import bisect
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

import ptgq
from proofs import __main__ as command
from proofs import dequantize, float32, oracle, pairs, record
from proofs.formats import FORMATS, Format, one_a_rule
from proofs.oracle import BFLOAT16, E4M3, FLOAT16, FLOAT32, INT8
from proofs.report import Report

RULES = one_a_rule(FORMATS)


def value_of(key: int, form: oracle.FloatFormat) -> Fraction:
    exponent, fraction = divmod(key, 1 << form.fraction_bits)
    significand = fraction + (exponent > 0) * (1 << form.fraction_bits)
    return significand * Fraction(2) ** (max(exponent, 1) - form.bias - form.fraction_bits)


def nearest(exact: Fraction, values: list[Fraction]) -> int:
    """The index of the nearest of sorted values; of two as near, the even one."""
    above = bisect(values, exact)
    around = range(max(above - 1, 0), min(above + 1, len(values)))
    return min(around, key=lambda i: (abs(values[i] - exact), i % 2))


def round_to_float32(exact: Fraction) -> Fraction:
    if exact == 0:
        return exact
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    while exact >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exact < Fraction(2) ** exponent:
        exponent -= 1
    spacing = Fraction(2) ** (max(exponent, -126) - 23)
    return round(exact / spacing) * spacing


def contract_scale(absmax: Fraction, fmt: Format, eps: float) -> Fraction:
    """The contract's scale as it is written, on exact fractions."""
    scale = round_to_float32(max(absmax, round_to_float32(Fraction(eps))) / fmt.codes.qmax)
    if fmt.power_of_two:
        power = Fraction(2) ** -130
        while power < scale:
            power *= 2
        scale = power
    return scale


@pytest.mark.parametrize("eps", [1e-10, 1e-24])
@pytest.mark.parametrize("form", [BFLOAT16, FLOAT16, FLOAT32], ids=lambda form: str(form.dtype))
@pytest.mark.parametrize("fmt", RULES, ids=lambda fmt: fmt.name)
def test_the_oracle_is_the_contract_on_fractions(fmt, form, eps):
    dice = random.Random(f"{fmt.name} {form.dtype}")
    for number in range(60):
        absmax = dice.choice([0, 1, form.infinity - 1, dice.randrange(form.infinity)])
        bits = oracle.to_float32_bits(torch.tensor([absmax]), form)
        assert value_of(bits.item(), FLOAT32) == value_of(absmax, form)
        scale = oracle.scale_bits(bits, eps, fmt.codes.qmax, fmt.power_of_two)
        exact_scale = contract_scale(value_of(absmax, form), fmt, eps)
        assert value_of(scale.item(), FLOAT32) == exact_scale
        if number % 2:  # all thresholds of a scale take longest
            continue
        (first,) = oracle.thresholds(scale, fmt.codes, form).tolist()
        # Anywhere, near the absmax, and at both sides of two thresholds.
        keys = [dice.randint(0, absmax) for _ in range(2)]
        keys += [max(0, absmax - dice.randrange(99)) for _ in range(2)]
        keys += [edge - side for edge in dice.choices(first, k=2) for side in (0, 1)]
        for key in keys:
            if not 0 <= key <= absmax:
                continue
            quotient = round_to_float32(value_of(key, form) / exact_scale)
            code = nearest(quotient, list(fmt.codes.values))
            assert sum(start <= key for start in first) == code


def test_code_values_are_those_of_the_formats():
    values = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert values.tolist() == [float(value) for value in E4M3.values]
    assert (E4M3.qmax, INT8.qmax) == (448, 127)


def test_codes_of_a_range_are_counted_thresholds():
    first = [3, 5, 5, 9]
    for start in range(12):
        codes = oracle.codes_of_range(first, start, 4, "cpu").tolist()
        assert codes == [sum(f <= key for f in first) for key in range(start, start + 4)]


def test_all_pairs_of_a_block_are_there():
    form, absmaxes = FLOAT16, range(40, 48, 2)
    block = pairs.Block(form, absmaxes, 16, "cpu")
    found = block.x.view(torch.int16).view(len(absmaxes), -1, 16)
    for row, absmax in zip(found, absmaxes, strict=True):
        wanted = {key - sign for key in range(absmax + 1) for sign in (0, 1 << 15)}
        assert set(row.flatten().tolist()) == wanted
        assert all(absmax in {value & 0x7FFF for value in group} for group in row.tolist())
    assert block.pairs == sum(2 * (absmax + 1) for absmax in absmaxes)
    everything = pairs.Block(form, range(form.infinity, form.infinity + 2), 16, "cpu")
    assert len(everything.x[0].view(torch.int16).unique()) == everything.pairs // 2 == 2**16


def test_blocks_cover_every_absmax_once():
    for form in (BFLOAT16, FLOAT16):
        keys = [key for block in pairs.blocks(form, 64, 1) for key in block]
        assert keys == list(range(2**15))


@dataclass(frozen=True)
class Wrong(Format):
    """One wrong byte in one place, for one input."""

    plant: str = ""

    def quantize(self, x, group_size, eps, backend):
        q, s = Format.quantize(self, x, group_size, eps, backend)
        if self.plant == "q":
            q.view(torch.uint8)[-1, 5] ^= 1
        elif self.plant == "s":
            s.view(torch.int32)[0, -1] += 1
        return q, s


PROOFS = {
    "pairs": lambda report, fmt: pairs.prove(report, "cpu", ["cpu"], [fmt], rows=8, stride=1024),
    "scales": lambda report, fmt: float32.prove_scales(
        report, "cpu", ["cpu"], [fmt], mantissas=16, exponents=[100], group_size=8
    ),
    "decisions": lambda report, fmt: float32.prove_decisions(
        report, "cpu", ["cpu"], [fmt], mantissas=2, exponents=[100]
    ),
    "quotients": lambda report, fmt: float32.prove_quotients(
        report, "cpu", ["cpu"], [fmt], chunk=1 << 16, stride=1 << 12
    ),
}


@pytest.mark.parametrize("codes", [E4M3, INT8], ids=["e4m3", "int8"])
@pytest.mark.parametrize("part", PROOFS)
@pytest.mark.parametrize("plant", ["", "q", "s"])
def test_a_planted_wrong_byte_is_found(part, plant, codes, capsys):
    report = Report()
    PROOFS[part](report, Wrong("planted", codes, plant=plant))
    status = report.close()
    shown = capsys.readouterr().out
    if plant and (part, plant) != ("scales", "q"):
        assert status == 1
        assert f"    {plant} is 0x" in shown
    else:
        assert status == 0
        assert " 0 differ" in shown


@pytest.mark.parametrize("form", dequantize.FORMS, ids=lambda form: str(form.dtype))
@pytest.mark.parametrize("codes", dequantize.CODES)
def test_the_products_are_those_of_fractions(codes, form):
    dice = random.Random(f"{codes} {form.dtype}")
    values = (E4M3 if codes == "e4m3" else INT8).values
    largest = Fraction(2) ** (form.bias + 1)
    for _ in range(300):
        code = dice.randrange(len(values))
        key = dice.choice([dice.randrange(FLOAT32.infinity), dice.randrange(1 << 24)])
        if form is FLOAT16:
            key = dice.randrange((127 - 34) << 23, (127 + 16) << 23)
        (products,) = dequantize.expected(torch.tensor([key], dtype=torch.int32), codes, form)
        exact = round_to_float32(values[code] * value_of(key, FLOAT32))
        found = products[code].item()
        # Half-way between the largest value and the next is infinity.
        if exact >= largest - largest * Fraction(2) ** -(form.fraction_bits + 2):
            assert found == form.infinity
        else:
            near = [value_of(k, form) for k in range(max(0, found - 1), found + 2)]
            assert nearest(exact, near) == found - max(0, found - 1) or (
                # Of two as near, the even one.
                found % 2 == 0 and abs(exact - value_of(found, form)) * 2 <= near[-1] - near[0]
            )
        if code:
            byte = 256 - code if codes == "int8" else code | 0x80
            assert products[byte].item() == found | 1 << (form.dtype.itemsize * 8 - 1)


@pytest.mark.parametrize("plant", ["", "a bit", "a NaN"])
def test_a_planted_wrong_product_is_found(plant, monkeypatch, capsys):
    right = ptgq.dequantize

    def wrong(*arguments, dtype, **options):
        y = right(*arguments, dtype=dtype, **options)
        if plant == "a bit" and dtype is torch.bfloat16:
            y.view(torch.int16)[-1, 5] ^= 1
        elif plant and dtype is torch.bfloat16:
            y[-1, 5] = torch.nan
        return y

    monkeypatch.setattr(ptgq, "dequantize", wrong)
    report = Report()
    dequantize.prove(report, "cpu", ["cpu"], rows=32, stride=1 << 11)
    assert report.close() == bool(plant)
    # 96 float32 scales and twice 256 bytes, with 256 codes of two kinds, in three dtypes, twice.
    assert report.checked == (96 + 512) * 256 * 2 * 3 * 2
    assert ("y is 0x" in capsys.readouterr().out) == bool(plant)


def test_nothing_checked_is_no_proof():
    assert Report().close() == 1


@pytest.mark.parametrize("part", PROOFS)
def test_every_format_is_proven_on_a_sample(part):
    for fmt in FORMATS:
        report = Report()
        PROOFS[part](report, fmt)
        assert report.close() == 0


@pytest.mark.parametrize(
    ("best", "expected"),
    [("AVX512", ["cpu", "avx2", "baseline"]), ("AVX2", ["cpu", "baseline"]), ("DEFAULT", ["cpu"])],
)
def test_each_instruction_set_is_proven_once(best, expected, monkeypatch):
    ran = []

    def run(_, env):
        ran.append(env.get("PTGQ_CPU_ISA") or "cpu")
        return SimpleNamespace(returncode=0)

    monkeypatch.delenv("PTGQ_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: best)
    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["--device=cpu", "--part=calls"]) == 0
    assert ran == [*expected, "cpu"]  # the last for the reference


def test_the_newest_run_of_each_kind_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    path = tmp_path / "newest.json"
    call = ["--device=cpu", "--backend=cpu", "--part=scales", "--format=planted"]
    call += [f"--record={path}"]
    for plant in ("s", ""):
        formats = (Wrong("planted", E4M3, plant=plant),)
        monkeypatch.setattr("proofs.formats.FORMATS", formats)
        wrong = command.main([*call, "--stride=524288"])
        (run,) = json.loads(path.read_text())
        # 255 exponents, 2 mantissas each; of each exponent the last scale is wrong.
        assert (run["checked"], run["differ"]) == (510, 255 if plant else 0)
        assert wrong == bool(plant)
    assert run["backends"] == ["cpu"]
    assert command.main([*call, "--stride=262144"]) == 0
    assert sorted(r["one_case_of"] for r in json.loads(path.read_text())) == [262144, 524288]


def test_a_run_of_more_parts_takes_the_place_of_one_of_fewer(tmp_path):
    path = tmp_path / "newest.json"
    run = dict.fromkeys(record.KIND, 1)
    for parts in (["pairs", "calls"], ["calls"], ["calls", "scales"], ["calls", "pairs", "scales"]):
        record.keep(path, {**run, "parts": parts})
        kept = [one["parts"] for one in record.read(path)]
        assert parts in kept
        if parts == ["calls", "scales"]:
            assert kept == [parts, ["pairs", "calls"]]
    assert kept == [parts]


def test_a_plan_keeps_each_of_its_runs(monkeypatch, tmp_path):
    ran = []

    def run(arguments, env):
        ran.append(arguments)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["--device=cpu", f"--record={tmp_path}/newest.json"]) == 0
    assert len(ran) > 1
    assert all(f"--record={tmp_path}/newest.json" in arguments for arguments in ran)


def test_a_record_in_no_folder_is_refused_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--device=cpu", f"--record={tmp_path}/none/newest.json"])
    err = capsys.readouterr().err
    assert err == f"proofs: error: --record: {tmp_path}/none is no folder\n"
