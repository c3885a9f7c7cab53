"""Writes tiles.json: the bytes of UE8M0 scales in tiles of 128 tokens and 4 groups.

Shares nothing with the package: each byte is put where cuBLAS's documentation of block scaling
factors says. A scale is 2 ** exponent(batch, token, group).
"""

import json
from pathlib import Path

# Batches, tokens of each, groups of a token: whole tiles, and parts of them.
SHAPES = [(2, 5, 6), (2, 133, 9), (1, 128, 4), (3, 1, 1)]


def exponent(shape, b, t, g):
    return ((b * shape[1] + t) * shape[2] + g) % 161 - 80


def tiles(shape, tokens):
    """The bytes of the scales of (batch, token) pairs, in rows of tiles."""
    across = -(-shape[2] // 4)
    down = -(-len(tokens) // 128)
    memory = bytearray(512 * across * down)
    for row, (b, t) in enumerate(tokens):
        for g in range(shape[2]):
            tile = row // 128 * across + g // 4
            inside = row % 128 % 32 * 16 + row % 128 // 32 * 4 + g % 4
            memory[512 * tile + inside] = exponent(shape, b, t, g) + 127
    return bytes(memory)


def of_all(shape):
    return tiles(shape, [(b, t) for b in range(shape[0]) for t in range(shape[1])])


def of_each_batch(shape):
    return b"".join(tiles(shape, [(b, t) for t in range(shape[1])]) for b in range(shape[0]))


BYTES = {
    "x".join(map(str, shape)): {"all": of_all(shape).hex(), "per_batch": of_each_batch(shape).hex()}
    for shape in SHAPES
}

if __name__ == "__main__":
    text = json.dumps(BYTES, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
