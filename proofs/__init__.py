"""Proofs that the backends' bytes are the contract's: exhaustive where a machine can be.

``python -m proofs --device cuda`` (or ``cpu``) runs them; :mod:`proofs.oracle` says what is right,
in integer arithmetic alone.
"""

PARTS = ("pairs", "scales", "decisions", "quotients", "conversion", "dequantize", "blocks", "calls")
