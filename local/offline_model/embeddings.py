"""Embeds text by feature hashing: texts that share words or pieces of words are near each other.

Features are the lower-cased words and the character 3-grams of the lower-cased text (white space collapsed,
one space at each end). A feature's hash picks a dimension and a sign (Weinberger et al. 2009, "Feature
Hashing for Large Scale Multitask Learning"); its weight is 1 + ln(tf); the vector has length 1. It knows
nothing of meaning.
"""

import base64
import math
import re
import struct
from collections import Counter
from functools import lru_cache
from hashlib import blake2b

_WORD = re.compile(r"\w+")


def embed(text: str, *, dimensions: int) -> list[float]:
    """Return the text's unit vector."""
    vector = [0.0] * dimensions
    for feature, occurrences in _features(text).items():
        number = _hash(feature)
        sign = 1.0 if number & 1 else -1.0
        vector[(number >> 1) % dimensions] += sign * (1.0 + math.log(occurrences))
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0.0:
        # Only white space, or features that cancel out. A zero vector has no direction: cosine would be NaN.
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / length for value in vector]


def to_base64(vector: list[float]) -> str:
    """Encode as OpenAI does: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _features(text: str) -> Counter[str]:
    lowered = " ".join(text.lower().split())
    padded = f" {lowered} "
    features = Counter(f"word:{word}" for word in _WORD.findall(lowered))
    features.update(f"3-gram:{padded[start : start + 3]}" for start in range(len(padded) - 2))
    return features


@lru_cache(maxsize=65_536)
def _hash(feature: str) -> int:
    # Not Python's own hash(), which differs from process to process.
    return int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
