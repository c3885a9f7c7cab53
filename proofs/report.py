"""What a proof counted, and what it found wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

# Differences of one comparison that are named.
SHOWN = 3


@dataclass
class Line:
    """One line of the table: a part on one backend in one format."""

    name: str
    checked: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def compare(
        self,
        what: str,
        actual: torch.Tensor,
        expected: torch.Tensor,
        describe: Callable[[Sequence[int]], str],
    ) -> None:
        """Compare integers; `describe` names the case at the index of a difference."""
        if torch.equal(actual, expected):
            return
        places = (actual != expected).nonzero()
        self.wrong += len(places)
        for place in places[:SHOWN].tolist():
            at = tuple(place)
            self.examples.append(
                f"{what} is 0x{actual[at].item():x} instead of 0x{expected[at].item():x} "
                f"for {describe(at)}"
            )


class Report:
    """The lines of a run, and the time that each part took."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._begin = time.perf_counter()

    def lines_for(
        self, part: str, what: str, backends: Iterable[str], formats: Iterable
    ) -> dict[tuple[str, str], Line]:
        """Return a new line for each backend and format; the time that they share begins."""
        print(f"\n{part}: {what}", flush=True)
        self._begin = time.perf_counter()
        return {
            (backend, fmt.name): Line(f"{backend}, {fmt.name}")
            for backend in backends
            for fmt in formats
        }

    def show(self, lines: dict[tuple[str, str], Line]) -> None:
        """Print lines that are complete, with the time they took together."""
        for line in lines.values():
            if not line.checked:
                continue
            print(f"  {line.name:32} {line.checked:16,} checked {line.wrong:10,} differ")
            for example in line.examples[:SHOWN]:
                print(f"    {example}")
        print(f"  {time.perf_counter() - self._begin:.1f} s", flush=True)
        self.lines.extend(lines.values())

    @property
    def checked(self) -> int:
        """How much was compared."""
        return sum(line.checked for line in self.lines)

    @property
    def wrong(self) -> int:
        """How much of it differs."""
        return sum(line.wrong for line in self.lines)

    def close(self) -> int:
        """Print the sum; return status 1 if anything differs or nothing was checked, else 0."""
        print(f"\n{self.checked:,} checked, {self.wrong:,} differ")
        return 1 if self.wrong or not self.checked else 0
