"""What is measured, by name: backends, shapes, formats, calls. Imports neither torch nor ptgq.

asv imports it in every process, and most of them only look a value up. The list of formats is that
of the working tree, as commits of before it existed are measured, too.
"""

from __future__ import annotations

import itertools
import math
import runpy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ptgq.scales import known as known
else:
    _KNOWN = Path(__file__).resolve().parents[2] / "ptgq/scales/known.py"
    known = SimpleNamespace(**runpy.run_path(str(_KNOWN)))

BACKENDS = ("cuda", "triton", "cpu", "reference")
DTYPES = ("fp8", "int8")
INPUT_DTYPES = known.INPUT_DTYPES
# The state of x when a kernel starts. produced: the kernel before has just written it, as in
# serving; the time is what the kernel adds to a graph of producers. hot: x, q and s lie in the L2
# cache, if they fit. cold: none of them does.
STATES = ("produced", "hot", "cold")

DEFAULT_SHAPES = ((32, 128), (64, 256), (16, 512))
GROUP_SIZES = (64, 128)
# Token counts of decoding, of prefill, and odd ones between; hidden sizes of served models.
SERVING_TOKENS = (1, 16, 128, 1023, 1024, 8192, 32768)
SERVING_SHAPES = tuple(itertools.product(SERVING_TOKENS, (2048, 4096, 5120, 6144, 7168)))


def scale_keywords(scales: str) -> dict[str, Any]:
    """Return the arguments that ask for a format, those alone that are not left out.

    `scale_dtype` is the name of a dtype.
    """
    kind, dtype, layout = known.FORMATS[scales]
    usual = "float32" if kind == "float32" else "float8_e8m0fnu"
    options = {
        "column_major_scales": layout != "row_major",
        "use_ue8m0": kind == "power_of_two",
        "scale_dtype": None if dtype == usual else dtype,
        "tma_aligned_scales": layout == "tma_aligned",
    }
    return {name: value for name, value in options.items() if value}


# The formats of FP8 that the first two arguments ask for.
DEFAULT_SCALE_FORMATS = tuple(
    name
    for name in known.FORMATS
    if scale_keywords(name).keys() <= {"column_major_scales", "use_ue8m0"}
)
# Those that no other arguments name than a preset, or a ScaleFormat, are last.
STORED = {**known.FORMATS, **known.TILED_FORMATS}
ALL_PRESETS = {**known.PRESETS, **known.TILED_PRESETS}
# The presets that read a format; all have one name on the record, the first.
CONSUMERS: dict[str, list[str]] = {}
for _name, _preset in ALL_PRESETS.items():
    CONSUMERS.setdefault(_preset.scales, []).append(_name)
PRESETS = tuple(names[0] for names in CONSUMERS.values())
CONSUMED = tuple(
    name for name in known.FORMATS if name in CONSUMERS and name not in DEFAULT_SCALE_FORMATS
)
SCALE_FORMATS = DEFAULT_SCALE_FORMATS + CONSUMED
# In the order of the record: kind by kind.
_BY_KIND = sorted(DEFAULT_SCALE_FORMATS, key=lambda name: known.FORMATS[name].kind)
# The options of a measure.workloads.Workload.
FORMATS: dict[str, dict[str, Any]] = {
    **{f"fp8_{name}": {"scales": name} for name in _BY_KIND},
    "int8": {"dtype": "int8"},
}


def group_size(preset: str) -> int:
    """Return the group size that a preset is measured with: the largest that it accepts."""
    return max(ALL_PRESETS[preset].group_sizes)


VARIANT_HIDDEN = 7168
VARIANTS: dict[str, dict[str, Any]] = {
    **{
        name: {"group_size": group_size(name), "scales": ALL_PRESETS[name].scales}
        for name in PRESETS
    },
    "group_64": {"group_size": 64},
    "group_32": {"group_size": 32},
    "int8": {"group_size": 128, "dtype": "int8"},
    "silu_and_mul": {"group_size": 128, "silu_and_mul": True},
}

# The suite measures other implementations in the usual format and the rest, at the default shapes
# in some.
PEER_TOKENS, PEER_HIDDEN = (1, 128, 1024, 8192), (4096, 7168)
PEER_VARIANTS: dict[str, dict[str, Any]] = {"row_float32": {"group_size": 128}, **VARIANTS}
PEER_DEFAULT_VARIANTS = ("row_float32", "group_64", "int8", "silu_and_mul")
# Masked rows, by whether SiLU is fused.
PEER_MASKED = {"masked": False, "masked_silu_and_mul": True}


def peers_asked_for(environment: Mapping[str, str]) -> tuple[set[str], float]:
    """Return the variants of other implementations to measure, and in how many seconds.

    Raises
    ------
    ValueError
        If PTGQ_PEERS_VARIANTS names others, or PTGQ_PEERS_SECONDS is no number of seconds.
    """
    known = (*PEER_VARIANTS, *PEER_MASKED)
    chosen = environment.get("PTGQ_PEERS_VARIANTS", ",".join(known)).split(",")
    for name in chosen:
        if name not in known:
            raise ValueError(f"PTGQ_PEERS_VARIANTS: {name!r} is none of {', '.join(known)}")
    text = environment.get("PTGQ_PEERS_SECONDS", "inf")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"PTGQ_PEERS_SECONDS: {text!r} is no number of seconds")
    return set(chosen), seconds


# Calls of the functions, by the first two arguments or by a preset.
PER_BATCH = "_per_batch"
_PRESET_CALLS = (
    name + suffix
    for name in PRESETS
    for suffix in (("", PER_BATCH) if ALL_PRESETS[name].per_batch else ("",))
)
CALLED_FORMATS = (*_BY_KIND, *_PRESET_CALLS)
# Formats whose codes and scales dequantize is given.
DEQUANTIZED = ("fp8_row_float32", "fp8_deep_gemm_blackwell", "int8")
CALLS = (
    *(f"{function}_{name}" for function in ("fp8", "silu") for name in CALLED_FORMATS),
    "fp8_strided_rows",
    "fp8_masked",
    "silu_masked",
    "int8",
    "silu-int8",
    "norm_row_float32",
    "norm_deep_gemm_blackwell",
    "norm-int8",
    "transposed_row_float32",
    "blocks",
    "dequantize-blocks",
    *(f"dequantize_{name}" for name in DEQUANTIZED),
)


# Masked rows, of [experts, tokens, hidden]. Counts: of each expert some of few, all, or none.
MASKED_SHAPE = (32, 256, 7168)
MASKED = ("routed", "full", "empty")


class Form(NamedTuple):
    """A function before or beside the GEMM, the shape it is given, and the state of that."""

    function: str
    shape: tuple[int, ...]
    state: str

    @property
    def bytes_moved(self) -> int:
        """The bytes of bfloat16, read once, and of what is written, with float32 scales."""
        moved, scaled = _MOVED[self.function]
        return moved * math.prod(self.shape) + 4 * math.prod(self.shape) // scaled


# Bytes an element, read and written, and elements a scale.
_MOVED = {"norm": (3, 128), "norm_residual": (7, 128), "transposed": (4, 64), "blocks": (3, 128**2)}
FORMS = {
    "_".join((form.function, "x".join(map(str, form.shape)), form.state)): form
    for form in (
        Form("norm_residual", (1, 7168), "produced"),
        Form("norm_residual", (128, 7168), "produced"),
        Form("norm_residual", (1024, 7168), "cold"),
        Form("norm_residual", (8192, 7168), "cold"),
        Form("norm", (8192, 7168), "cold"),
        Form("transposed", (8192, 7168), "cold"),
        Form("blocks", (7168, 7168), "cold"),
        Form("blocks", (256, 2048, 7168), "cold"),
    )
}
# Calls of theirs whose bytes are compared, by a preset or another word behind the function's.
CHECKED = (
    "norm_row_float32",
    "norm_deep_gemm_blackwell",
    "norm_residual",
    "norm-int8",
    "transposed_row_float32",
    "transposed_deep_gemm_blackwell",
    "blocks",
    "blocks_torch_scaled_mm_blocks",
    "blocks_deep_gemm_blackwell_blocks",
    "dequantize-blocks",
)


def for_site() -> dict[str, Any]:
    """Return what the site needs of them to say what a row of the record is."""
    variants = {
        name: {
            "group": options["group_size"],
            "format": options.get("dtype") or f"fp8_{options.get('scales', 'row_float32')}",
            "silu": options.get("silu_and_mul", False),
        }
        for name, options in PEER_VARIANTS.items()
    }
    row_float32 = known.FORMATS["row_float32"]
    formats = {"int8": row_float32, **{f"fp8_{name}": its for name, its in STORED.items()}}
    return {
        "states": STATES,
        "default_hidden": dict(DEFAULT_SHAPES),
        "variant_hidden": VARIANT_HIDDEN,
        "variants": variants,
        "masked": {
            "variants": PEER_MASKED,
            "shape": MASKED_SHAPE,
            "group": ALL_PRESETS["deep_gemm_hopper"].group_sizes[0],
            "format": f"fp8_{ALL_PRESETS['deep_gemm_hopper'].scales}",
        },
        "forms": {
            name: {**form._asdict(), "bytes": form.bytes_moved} for name, form in FORMS.items()
        },
        "formats": {name: its._asdict() for name, its in formats.items()},
        "consumers": {f"fp8_{name}": ", ".join(names) for name, names in CONSUMERS.items()},
    }
