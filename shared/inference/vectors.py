"""Vectors as OpenAI's base64: little-endian 32-bit floats, a quarter of their size as JSON numbers."""

import base64
import struct
from collections.abc import Sequence


def encode(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def decode(text: str) -> tuple[float, ...]:
    """Return the vector; raise `ValueError` on anything that isn't base64 of whole floats."""
    packed = base64.b64decode(text, validate=True)
    if len(packed) % 4:
        raise ValueError("not a whole number of 32-bit floats")
    return struct.unpack(f"<{len(packed) // 4}f", packed)
