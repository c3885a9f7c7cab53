"""The asv suite: each file answers one question about the project at a commit."""

import sys
from pathlib import Path

# asv finds this package without putting its folder, which holds ``measure``, on the path.
sys.path.append(str(Path(__file__).resolve().parents[1]))
