"""``python -m ptgq``: what is installed, which backends can run here, and why the others can't."""

import torch

from ptgq import __version__, backends
from ptgq.extension import built

print(f"ptgq {__version__}")
for name, value in {"torch": torch.__version__, **built()}.items():
    print(f"  {name:<19} {value}")
for name, status in backends().items():
    print(f"  {name:<10} {'yes' if status.available else 'no ':<4} {status.reason}")
