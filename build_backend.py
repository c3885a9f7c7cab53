"""The build backend: setuptools, and the torch that an isolated build compiles against.

Installers ask these functions what a build needs only where they isolate it. What installs
``build-system.requires`` alone, as asv's environments do, or builds on the installed torch, never
fetches one.
"""

import atexit
import gc
import re

LEAST_SETUPTOOLS = 77

try:
    import setuptools
except ModuleNotFoundError:
    found = "none"
else:
    found = setuptools.__version__
if found == "none" or int(re.match(r"\d+", found)[0]) < LEAST_SETUPTOOLS:
    raise SystemExit(
        f"ptgq: building needs setuptools>={LEAST_SETUPTOOLS}, here is {found}: "
        f"pip install 'setuptools>={LEAST_SETUPTOOLS}' ninja"
    )

from setuptools import build_meta  # noqa: E402
from setuptools.build_meta import *  # noqa: E402, F403

# A build that ends would look through all of torch, for half a second.
atexit.register(gc.freeze)

# The library is for every torch from here on, whichever it is compiled against.
TORCH = "torch>=2.11"


def get_requires_for_build_wheel(config_settings=None):
    """Return setuptools' requirements and torch."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), TORCH]


def get_requires_for_build_editable(config_settings=None):
    """Return setuptools' requirements and torch."""
    return [*build_meta.get_requires_for_build_editable(config_settings), TORCH]
