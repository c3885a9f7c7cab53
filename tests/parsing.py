"""What asv parses, parsed once: tests give it the same files again and again."""

from __future__ import annotations

import functools
import pickle
import sys


def leave_out_repetition() -> None:
    """Let asv, where it is imported, read equal text once: its configuration, its benchmarks' code.

    Files are read each time; what is made of their text is kept.
    """
    if "json5" in sys.modules:
        json5 = sys.modules["json5"]
        loads = json5.loads
        pickled = functools.cache(lambda text: pickle.dumps(loads(text)))
        json5.loads = lambda text, **more: (
            loads(text, **more) if more else pickle.loads(pickled(text))
        )
    if base := sys.modules.get("asv_runner.benchmarks._base"):
        if hasattr(base, "_token_fingerprint"):
            base._token_fingerprint = functools.cache(base._token_fingerprint)
        inspect = base.inspect
        length = functools.cache(lambda lines, getblock=inspect.getblock: len(getblock([*lines])))
        inspect.getblock = lambda lines: lines[: length(tuple(lines))]
