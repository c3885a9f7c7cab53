"""Deal an exported comparison's rounds into tables of few rounds, and count the verdicts.

It shows what ``nox -s compare`` says how often on this machine: of two commits that differ by a
comment, all that is called is called by chance.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from asv.config import Config

from asv_plugins.verdict import threshold_for
from tracking.arguments import Parser, whole_number
from tracking.verdict import Round, decide_table, kind


def deal(rounds: Sequence[Round], tables: int) -> list[Sequence[Round]]:
    """Return each table's rounds: neighbours in time, as a comparison's are."""
    each = len(rounds) // tables
    return [rounds[table * each : (table + 1) * each] for table in range(tables)]


def verdicts(
    content: Mapping[str, Mapping[str, Sequence]], tables: int, thresholds: Mapping[str, float]
) -> dict[str, Counter]:
    """Count the verdicts of all tables by kind of row.

    Raises
    ------
    ValueError
        If a row has fewer than three rounds a table.
    """
    rows = {row: sides for row, sides in content["rounds"].items() if None not in sides}
    least = min((len(side) for sides in rows.values() for side in sides), default=0)
    if least < 3 * tables:
        raise ValueError(f"--tables {tables} takes {3 * tables} rounds, the file has {least}")
    found: dict[str, Counter] = defaultdict(Counter)
    for table in range(tables):
        base, head = (
            {row: deal(sides[side], tables)[table] for row, sides in rows.items()}
            for side in (0, 1)
        )
        decided = decide_table(base, head, lambda row: threshold_for(row, thresholds))
        for row, one in decided.items():
            found[", ".join(kind(row))][one.word] += 1
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts."""
    parser = Parser(prog="deal", description=__doc__)
    parser.add_argument("file", type=Path, help="of nox -s compare -- ... --export FILE")
    parser.add_argument("--tables", type=whole_number(1), default=10, help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        content = json.loads(options.file.read_text())
        thresholds = Config.load("asv.conf.json").regressions_thresholds
        found = verdicts(content, options.tables, thresholds)
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{options.file}: {error}")
    for rows, words in sorted(found.items()):
        print(f"{rows}: {', '.join(f'{n} {word}' for word, n in words.most_common())}")
    everything = sum(found.values(), Counter())
    print(f"all: {', '.join(f'{n} {word}' for word, n in everything.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
