"""Writes scales.json: the bytes that consumers read, format by format, by plain arithmetic.

Shares nothing with the package. A scale is 2 ** exponent(batch, token, group).
"""

import json
import struct
from pathlib import Path

BATCH, TOKENS, GROUPS = 2, 5, 6


def exponent(b, t, g):
    return (b * TOKENS + t) * GROUPS + g - 30


def float32(b, t, g):
    return struct.pack("<f", 2.0 ** exponent(b, t, g))


def byte(b, t, g):
    return struct.pack("B", exponent(b, t, g) + 127)


def word(b, t, w):
    return b"".join(byte(b, t, g) if g < GROUPS else b"\0" for g in range(4 * w, 4 * w + 4))


ALL = [(b, t) for b in range(BATCH) for t in range(TOKENS)]


def rows(element, count):
    return b"".join(element(b, t, i) for b, t in ALL for i in range(count))


def columns(element, count, tokens, padding=0):
    zeros = bytes(len(element(0, 0, 0)) * padding)
    return b"".join(b"".join(element(b, t, i) for b, t in tokens) + zeros for i in range(count))


def batches(element, count, padding=0):
    return b"".join(
        columns(element, count, [(b, t) for t in range(TOKENS)], padding) for b in range(BATCH)
    )


# kind storage layout [per_batch]: 10 tokens are padded to 12, the 5 of a batch to 8.
FORMATS = {
    "float32 float32 row_major": rows(float32, 6),
    "float32 float32 column_major": columns(float32, 6, ALL),
    "float32 float32 tma_aligned": columns(float32, 6, ALL, 2),
    "float32 float32 column_major per_batch": batches(float32, 6),
    "float32 float32 tma_aligned per_batch": batches(float32, 6, 3),
    "power_of_two float8_e8m0fnu row_major": rows(byte, 6),
    "power_of_two float8_e8m0fnu column_major": columns(byte, 6, ALL),
    "power_of_two int32 row_major": rows(word, 2),
    "power_of_two int32 tma_aligned": columns(word, 2, ALL, 2),
    "power_of_two int32 tma_aligned per_batch": batches(word, 2, 3),
}
# Powers of two in float32 look like any float32.
FORMATS |= {
    name.replace("float32", "power_of_two", 1): value
    for name, value in FORMATS.items()
    if name.startswith("float32")
}

if __name__ == "__main__":
    text = json.dumps({name: value.hex() for name, value in FORMATS.items()}, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
