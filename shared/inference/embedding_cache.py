"""The embedding cache: a text that an org has had embedded isn't embedded, or paid for, again for a week."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from uuid import UUID

from shared.inference import vectors
from shared.kernel import pipelining
from shared.kernel.pipelining import Command

_TTL_S = 7 * 24 * 3_600
# Vectors in one round trip: 256 of 3,072 numbers are 4 MB, which Redis takes well within cache.py's time.
_AT_ONCE = 256
# Nothing small waits behind them.
_LANE = "vectors"

type Vector = tuple[float, ...]


async def get(org_id: UUID, model: str, dimensions: int | None, texts: Sequence[str]) -> list[Vector | None]:
    """Return each text's vector, None where there is none, in order. A text given twice is looked up once."""
    found: dict[str, Vector | None] = {}
    for some in batched(dict.fromkeys(texts), _AT_ONCE, strict=False):
        keys = [_key(org_id, model, dimensions, text) for text in some]
        replies = await pipelining.do(Command(("MGET", *keys)), lane=_LANE)
        if not replies or replies[0] is None:
            break
        found.update(zip(some, map(_vector, replies[0]), strict=True))
    return [found.get(text) for text in texts]


async def put(org_id: UUID, model: str, dimensions: int | None, new: Mapping[str, Sequence[float]]) -> None:
    """Keep these texts' vectors."""
    for some in batched(new.items(), _AT_ONCE, strict=False):
        await pipelining.do(*_writes(org_id, model, dimensions, some), lane=_LANE, needed=True)


def missing(texts: Sequence[str], found: Sequence[Vector | None]) -> list[str]:
    """Return the texts that still have to be embedded, each once."""
    return list(dict.fromkeys(text for text, vector in zip(texts, found, strict=True) if vector is None))


def complete(texts: Sequence[str], found: Sequence[Vector | None], new: Mapping[str, Vector]) -> list[Vector]:
    """Return every text's vector: the one that was found, else the new one."""
    return [new[text] if vector is None else vector for text, vector in zip(texts, found, strict=True)]


def _writes(
    org_id: UUID, model: str, dimensions: int | None, some: Sequence[tuple[str, Sequence[float]]]
) -> Iterator[Command]:
    for text, vector in some:
        yield Command(("SET", _key(org_id, model, dimensions, text), vectors.encode(vector), "EX", _TTL_S))


def _key(org_id: UUID, model: str, dimensions: int | None, text: str) -> str:
    digest = hashlib.sha256(repr((model, dimensions, text)).encode()).hexdigest()
    # The braces keep an org's vectors on one node of a cluster, as MGET needs them.
    return f"vector1:{{{org_id}}}:{digest}"


def _vector(raw: bytes | None) -> Vector | None:
    if raw is None:
        return None
    try:
        return vectors.decode(raw.decode("ascii")) or None
    except ValueError:
        return None
