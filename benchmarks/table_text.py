"""The table as text: for people in at most 100 columns, and line by line for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from measure.configurations import DEFAULT_SCALE_FORMATS

LABELS = {"cuda": "CUDA", "triton": "Triton", "cpu": "CPU", "reference": "Reference"}

Row = Mapping[str, object]


def three_digits(value: float) -> str:
    """Write a number with three significant digits, and zeros behind these."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{float(f'{value:.3g}'):.0f}"


def in_column(value: float, width: int) -> str:
    """Write it so in a column, and a small one with the digits that fit."""
    text = three_digits(value)
    return f"{text if value >= 1 or len(text) <= width else f'{value:.{width - 2}f}':>{width}}"


def microseconds(row: Row, backend: str) -> str:
    """Return a backend's median and its spread."""
    return f"{three_digits(1e3 * row[f'{backend}_ms'])} ±{100 * row[f'{backend}_spread']:.0f}%"


def bandwidth(row: Row, backend: str) -> tuple[float, float]:
    """Return a backend's GB/s, and percent of a copy."""
    return row[f"{backend}_gb_per_s"], row[f"{backend}_percent_of_copy"]


def decided(row: Row, backend: str) -> bool:
    """Whether the first backend is faster or slower than this one, beyond the noise."""
    interval = row[f"speed_up_over_{backend}_interval"]
    return interval is not None and (interval[0] > 1 or interval[1] < 1)


class Lines:
    """Rows for programs: the line form that this script has always had, with cells added."""

    line = "{}"

    def __init__(self, backends: Sequence[str], bandwidth: bool = False):
        self.backends = backends

    def headings(self) -> list[str]:
        """Return the headings."""
        names = ["Configuration", *(f"{LABELS[name]} (ms)" for name in self.backends)]
        one = len(self.backends) == 2
        names += ["Speed-up" if one else f"over {LABELS[name]}" for name in self.backends[1:]]
        return [*names, *(f"{LABELS[name]} (µs)" for name in self.backends)]

    def cells(self, row: Row) -> list[str]:
        """Return the cells of a row."""
        configuration = (
            f"shape={row['shape']!s:<15}gs={row['group_size']:<5}"
            f"col_major={row['column_major_scales']!s:<7}ue8m0={row['use_ue8m0']!s:<7}"
            f"dtype={row['dtype']}"
        )
        if row["scales"] not in DEFAULT_SCALE_FORMATS:
            configuration += f" scales={row['scales']}"
        if row["silu_and_mul"]:
            configuration += " silu"
        if row["swiglu_limit"] is not None:
            configuration += f" swiglu_limit={row['swiglu_limit']:g}"
        if row["nonfinite"] != "mark":
            configuration += f" nonfinite={row['nonfinite']}"
        if row["input_dtype"] != "bfloat16":
            configuration += f" input={row['input_dtype']}"
        texts = [f"{configuration:<75}"]
        for name in self.backends:
            text = f"{LABELS[name]} {row[f'{name}_ms']:>8.4f} ms"
            if f"{name}_gb_per_s" in row:
                rate, percent = map(three_digits, bandwidth(row, name))
                text += f" {rate:>8} GB/s {percent:>6} % of copy"
            texts.append(text)
        for name in self.backends[1:]:
            text = f"speed-up ×{row[f'speed_up_over_{name}']:.2f}"
            texts.append(text if decided(row, name) else f"{text} undecided")
        return [*texts, *(f"{microseconds(row, name):>10}" for name in self.backends)]

    def widths(self, first: Sequence[str]) -> list[int]:
        """Return the columns' widths, those of the first row's cells."""
        return [len(cell) for cell in first]


class Page:
    """Rows for people: units in the headings, two backends in at most 100 columns.

    What holds for all rows, x's type and options, stands above the table.
    """

    line = "{}"

    def __init__(self, backends: Sequence[str], bandwidth: bool = False):
        self.backends, self.bandwidth = backends, bandwidth

    def columns(self, name: str) -> list[str]:
        """Return the headings of a backend's columns."""
        return [f"{LABELS[name]} µs GB/s %" if self.bandwidth else f"{LABELS[name]} µs"]

    def measured(self, row: Row, name: str) -> list[str]:
        """Return the cells of these."""
        if not self.bandwidth:
            return [microseconds(row, name)]
        values = (1e3 * row[f"{name}_ms"], *bandwidth(row, name))
        return [" ".join(map(in_column, values, (6, 6, 5)))]

    def headings(self) -> list[str]:
        """Return the headings."""
        names = [heading for name in self.backends for heading in self.columns(name)]
        one = len(self.backends) == 2
        over = ["speed-up" if one else f"× {LABELS[name]}" for name in self.backends[1:]]
        return ["tokens × hidden, group, format", *names, *over]

    def cells(self, row: Row) -> list[str]:
        """Return the cells of a row."""
        tokens, hidden = row["shape"]
        words = [f"{tokens} × {hidden}", str(row["group_size"])]
        scales = str(row["scales"]).replace("_", " ")
        if row["dtype"] == "int8":
            # It has float32 alone.
            scales = "INT8 " + scales.removesuffix(" float32")
        words.append(scales.replace("INT8 row", "INT8").replace("ue8m0 float32", "ue8m0 fp32"))
        words += ["SiLU"] if row["silu_and_mul"] else []
        texts = [", ".join(words)]
        for name in self.backends:
            texts += self.measured(row, name)
        for name in self.backends[1:]:
            ratio = row[f"speed_up_over_{name}"]
            texts.append(f"×{ratio:.2f}" if decided(row, name) else "undecided")
        return texts

    def widths(self, first: Sequence[str]) -> list[int]:
        """Return the columns' widths."""
        ratios = len(self.backends) - 1
        widest = 19 if self.bandwidth else 10
        times = self.headings()[1 : len(first) - ratios]
        return [43, *(max(widest, len(heading)) for heading in times), *[9] * ratios]


class Markdown(Page):
    """The same as a table of Markdown, of one number a column."""

    line = "| {} |"

    def columns(self, name: str) -> list[str]:
        """Return the headings of a backend's columns."""
        units = ("µs", "GB/s", "% of copy") if self.bandwidth else ("µs",)
        return [f"{LABELS[name]} {unit}" for unit in units]

    def measured(self, row: Row, name: str) -> list[str]:
        """Return the cells of these."""
        rates = map(three_digits, bandwidth(row, name)) if self.bandwidth else ()
        return [microseconds(row, name), *rates]

    def widths(self, first: Sequence[str]) -> list[int]:
        """Return the columns' widths."""
        return [len(heading) for heading in self.headings()]
