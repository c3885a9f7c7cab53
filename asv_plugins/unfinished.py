"""Results are saved while a commit is measured: of a run that is killed, they are kept.

asv saves when all of them are there, which takes minutes. Loaded as a plugin, this saves meanwhile,
marked as such: the commit counts as not measured yet, and the next run measures what
it lacks (``--skip-existing-successful``).
"""

from __future__ import annotations

import time
from unittest.mock import patch

from asv.results import Results

from asv_plugins import storage

SECONDS = 30.0  # from one time to the next
_load_data, _add_result = Results.load_data, Results.add_result


def load_data(self: Results, result_dir: str) -> None:
    """Do as asv, which loads what is stored only where it will save, and remember where."""
    _load_data(self, result_dir)
    self.saved_in, self.saved_at = result_dir, time.monotonic()


def add_result(self: Results, *args: object, **options: object) -> None:
    """Do as asv, and save if it is time."""
    _add_result(self, *args, **options)
    if hasattr(self, "saved_in") and time.monotonic() - self.saved_at >= SECONDS:
        with patch.dict(storage.more_of_results, {storage.UNFINISHED: True}):
            self.save(self.saved_in)
        self.saved_at = time.monotonic()


Results.load_data, Results.add_result = load_data, add_result
