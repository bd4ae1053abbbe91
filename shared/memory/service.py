"""Use cases of memory: save, search, get, list, delete.

Saving and searching ask the embedding model, which is outside the database, and so open their own transactions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate
from shared.inference import service as inference
from shared.inference.model import Embeddings
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.memory import store
from shared.memory.model import DIMENSIONS, Draft, Hit, Memory, check_query, check_subject, combined, pieces
from shared.quotas import service as quotas
from shared.quotas.model import Look
from shared.quotas.plans import Allowance, Resource
from shared.usage.model import Metered, UsageKind

_NOUN = "memory"


def save(
    caller: Caller,
    *,
    content: str,
    subject: str,
    source_id: str,
    max_cost_microusd: int | None,
    importance: float = 0.5,
    tags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    on_behalf_of: UUID | None = None,
) -> Memory:
    """Embed and store a memory; return the first one again for a `source_id` that has one.

    `max_cost_microusd` as in `inference.service.complete`: None pays from the tenant's credits. `on_behalf_of` is the
    person whose memory it is, where that isn't the caller: a run's. Raises
    `InvalidRequest`, `MemoryTooLarge`, `QuotaExceeded` and what embedding raises.
    """
    draft = Draft(content=content, subject=subject, importance=importance, tags=tuple(tags), metadata=metadata or {})
    with db.tenant(caller) as tx:
        known = store.find_by_source(tx, source_id)
        if known is None:
            # Refused before the embedding costs anything; what counts is the allocation below.
            _check_room(tx, caller, draft)
    if known is not None:
        return known
    texts = pieces(draft.content)
    found = _embed(caller, texts, source_id, max_cost_microusd)
    with db.tenant(caller) as tx:
        saved = store.insert(
            tx,
            draft,
            memory_id=ids.new(),
            source_id=source_id,
            created_by_user=on_behalf_of or caller.person_id,
            embedding=combined(found.vectors, texts),
            embedding_model=found.model,
        )
        if saved is None:
            # The same save, delivered twice at once, was quicker.
            return _required(store.find_by_source(tx, source_id), source_id)
        shown = ids.show("mem", saved.id)
        for resource, amount in _amounts(saved.content):
            quotas.allocate(tx, caller.org_id, resource, holder=shown, amount=amount)
        quotas.spend_allowance(tx, caller.org_id, Allowance.MEMORIES)
        _count(tx, caller, source_id, "save")
        # What is remembered may be private: the trail names it and doesn't repeat it.
        new = {"subject": saved.subject, "importance": saved.importance, "tags": list(saved.tags)}
        audit.record(tx, caller, action="memory.create", resource_type=_NOUN, resource_id=shown, new=new)
    return saved


def estimate_save(tx: Tx, caller: Caller, content: str) -> Estimate:
    """Return what saving such a text costs; raise `MemoryTooLarge`."""
    texts = pieces(Draft(content=content, subject=_NOUN).content)
    return _with_operation(inference.estimate_embeddings(tx, caller, texts))


def dry_run_save(
    tx: Tx,
    caller: Caller,
    *,
    content: str,
    subject: str,
    importance: float = 0.5,
    tags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> DryRun:
    """Return what `save` costs, and what it would refuse this with just now. Raises what it raises of a draft."""
    draft = Draft(content=content, subject=subject, importance=importance, tags=tuple(tags), metadata=metadata or {})
    dry = inference.dry_run_embeddings(tx, caller, pieces(draft.content))
    refusal = billing.first_refusal(lambda: _check_room(tx, caller, draft))
    return DryRun(_NOUN, _with_operation(dry.estimate), refusal or dry.refusal)


def dry_run_search(tx: Tx, caller: Caller, *, query: str, subject: str | None, k: int) -> DryRun:
    """Return what `search` costs, and what it would refuse this with just now. Raises what it raises of a query."""
    check_query(query, k=k)
    if subject is not None:
        check_subject(subject)
    dry = inference.dry_run_embeddings(tx, caller, [query])
    return DryRun("memory_search", _with_operation(dry.estimate), dry.refusal)


def search(
    caller: Caller,
    *,
    query: str,
    subject: str | None,
    k: int,
    source_id: str,
    max_cost_microusd: int | None,
) -> list[Hit]:
    """Return the `k` memories that fit the query best, by meaning and by words; of one subject, if given.

    A member finds their own alone.

    The same `source_id` again is neither embedded nor paid for again.
    """
    check_query(query, k=k)
    if subject is not None:
        check_subject(subject)
    found = _embed(caller, [query], source_id, max_cost_microusd)
    with db.tenant(caller) as tx:
        _count(tx, caller, source_id, "search")
        return store.search(
            tx,
            only_own=caller.only_own,
            query=query,
            embedding=combined(found.vectors, [query]),
            embedding_model=found.model,
            subject=subject,
            k=k,
        )


def get(tx: Tx, caller: Caller, memory_id: UUID) -> Memory:
    return _required(store.find(tx, memory_id, only_own=caller.only_own), ids.show("mem", memory_id))


def list_memories(tx: Tx, caller: Caller, asked: Slice, *, subject: str | None = None) -> list[Memory]:
    """Return up to `limit + 1` memories, newest first; of one subject, if given."""
    if subject is not None:
        check_subject(subject)
    return store.list_memories(tx, asked, only_own=caller.only_own, subject=subject)


def delete(tx: Tx, caller: Caller, memory_id: UUID) -> None:
    """Remove the memory for good; raise `NotFound` when there is none."""
    shown = ids.show("mem", memory_id)
    if not store.delete(tx, memory_id, only_own=caller.only_own):
        raise NotFound.of(_NOUN, shown)
    for resource in (Resource.MEMORIES, Resource.STORAGE_BYTES):
        quotas.release(tx, caller.org_id, resource, holder=shown)
    audit.record(tx, caller, action="memory.delete", resource_type=_NOUN, resource_id=shown)


def holders(tx: Tx, look: Look) -> list[tuple[UUID, int]]:
    """Return the stored memories, each of which counts as one."""
    return [(memory_id, 1) for memory_id, _ in stored_bytes(tx, look)]


def stored_bytes(tx: Tx, look: Look) -> list[tuple[UUID, int]]:
    """Return the stored memories and the bytes of their text in UTF-8."""
    return store.sizes(tx, after=look.after, among=look.among, limit=look.limit)


def cost_of(tx: Tx, *, source_id: str) -> int:
    """Return the micro-dollars that the save or search with this source id has cost."""
    return inference.cost_of(tx, source_id=_embedding_source(source_id))


def _amounts(content: str) -> tuple[tuple[Resource, int], ...]:
    return (Resource.MEMORIES, 1), (Resource.STORAGE_BYTES, len(content.encode()))


def _with_operation(embedding: Estimate) -> Estimate:
    """Return what the embedding and the operation itself cost together."""
    cost = billing.price_of(UsageKind.MEMORY_OPERATIONS, 1, {}, at=clock.now()).cost_microusd
    return replace(
        embedding,
        expected_microusd=embedding.expected_microusd + cost,
        p90_microusd=embedding.p90_microusd + cost,
        worst_microusd=embedding.worst_microusd + cost,
    )


def _check_room(tx: Tx, caller: Caller, draft: Draft) -> None:
    for resource, amount in _amounts(draft.content):
        quotas.check(tx, caller.org_id, resource, amount=amount)
    quotas.check_allowance(tx, caller.org_id, Allowance.MEMORIES)


def _embed(caller: Caller, texts: Sequence[str], source_id: str, max_cost_microusd: int | None) -> Embeddings:
    return inference.embed(
        caller,
        texts=texts,
        model=None,
        source_id=_embedding_source(source_id),
        max_cost_microusd=max_cost_microusd,
        dimensions=DIMENSIONS,
    )


def _embedding_source(source_id: str) -> str:
    return f"{source_id}:embedding"


def _count(tx: Tx, caller: Caller, source_id: str, operation: str) -> None:
    counted = Metered(UsageKind.MEMORY_OPERATIONS, 1, source_id, clock.now(), {"operation": operation})
    billing.meter(tx, caller, [counted])


def _required(memory: Memory | None, named: str) -> Memory:
    if memory is None:
        raise NotFound.of(_NOUN, named)
    return memory
