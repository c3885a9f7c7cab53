"""``python -m ptgq``: which backends can run here, and why the others can't."""

from ptgq import __version__, backends

print(f"ptgq {__version__}")
for name, status in backends().items():
    print(f"  {name:<10} {'yes' if status.available else 'no ':<4} {status.reason}")
